"""Nova's compute driver for shiftvol: every operation is an RPC call to the agent on this host. The contract is in README.md."""
