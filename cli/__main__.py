"""`python -m cli` is `voicemill`."""

from cli.main import main

if __name__ == "__main__":
    main()
