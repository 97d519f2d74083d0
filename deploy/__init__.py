"""How the refinery is set up and run: the scripts of `make`, the servers, and the compose file."""
