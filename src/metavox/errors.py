"""The one exception that means 'the user can fix this'."""


class UserError(Exception):
    """A problem with what was given: input, parameters, machine.

    The message is one line: what came, what was expected, what to do. Commands print it
    without a traceback and exit with status 2.
    """
