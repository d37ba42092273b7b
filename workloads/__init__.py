"""What machines do and what is learnt from it: experiments, traces, the launcher and its reports."""
