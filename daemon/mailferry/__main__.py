"""`python -m mailferry`, the same as the installed command."""

from mailferry.cli.main import main

if __name__ == "__main__":
    main()
