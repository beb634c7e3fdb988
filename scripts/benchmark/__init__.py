"""What `make bench` compares: this project's chips, other libraries, the limits of this machine, whole processes."""
