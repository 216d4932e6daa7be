"""`python -m cli` is `voicemill`."""

from cli.start import main

if __name__ == "__main__":
    main()
