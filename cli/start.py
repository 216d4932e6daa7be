"""`voicemill`, as the console script calls it."""

import gc


def main() -> None:
    """Run a command; the process ends with its exit code.

    What is imported stays until the end, so looking for garbage among it is for nothing: without that, a command starts a
    tenth sooner. `cli.main` turns the collector on again once a command has been found.
    """
    gc.disable()
    from cli.main import main

    main()
