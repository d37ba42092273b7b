"""How much of an office's traffic a larger cache keeps at home.

The tables of several runs are put together as pandas' data frames.
"""

# %% Run the office that ships with lrpc, once for each size of its workstations' caches.
import pandas as pd

import lrpc

BLOCKS = 'domains.cache.exports."files@{machine}".parameters.blocks'
results = {
    blocks: lrpc.run(
        lrpc.read_cluster("office", changes={BLOCKS: blocks, "domains.user.threads.0.parameters.actions": 100})
    )
    for blocks in (4, 16, 64)
}

# %% How often did a call leave its machine?
counts = pd.DataFrame({blocks: result.counts for blocks, result in results.items()}).T
counts.index.name = "blocks"
counts["remote_percent"] = 100 * counts["cross_machine"] / counts[["trap", "cross_domain", "cross_machine"]].sum(axis=1)
print(counts[["cross_domain", "cross_machine", "remote_percent"]].round(2))

# %% Which calls are those? Every table of a record can be a data frame.
calls = pd.concat(
    pd.DataFrame(result.tables["calls"].rows, columns=list(result.tables["calls"].columns)).assign(blocks=blocks)
    for blocks, result in results.items()
)
remote = calls[calls["crosses"] == "cross_machine"]
print(remote.groupby(["blocks", "procedure"])["calls"].sum().unstack(fill_value=0))
