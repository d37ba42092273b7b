"""What simulated machines do, and what is learnt from it: workloads, traces, studies and
reports.
"""
