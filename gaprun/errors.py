"""The two ways in which a command ends badly; the text is one line with the way out, rendered once in `cli/`."""


class GaprunError(Exception):
    """An error whose message is meant for the person at the keyboard; `exit_code` is the process's."""

    exit_code = 1


class UserError(GaprunError):
    """The request itself is wrong: a misspelt key, a missing file, an impossible combination. Exit code 2."""

    exit_code = 2


class Failure(GaprunError):
    """The request was right and could not be carried out: a full disk, a diverged loss. Exit code 1."""
