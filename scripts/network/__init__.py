"""The network: its interface, its layers, its checkpoint."""
