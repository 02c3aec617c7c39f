"""The command line: one file a command that parses, calls and renders; no logic and no torch at import time."""
