"""The contracts between the parts of RSPP: ports, errors and media formats."""
