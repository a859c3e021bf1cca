"""The command line of RSPP and how its commands speak to their users."""
