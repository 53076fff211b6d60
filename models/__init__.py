# The network, its losses, and everything that decides with it.
