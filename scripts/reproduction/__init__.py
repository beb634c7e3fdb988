"""make reproduce: two builds under different conditions, and what differs between them."""
