"""`python -m segkit`, and so `torchrun -m segkit`."""

from segkit.cli.main import main

if __name__ == "__main__":
    main()
