"""COSMOP on one machine without root or Docker: embedded servers, the supervisor, the drawn world, the demonstration site."""
