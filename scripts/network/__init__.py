"""The network: its interface, layers and checkpoint."""
