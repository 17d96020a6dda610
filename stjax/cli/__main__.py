"""``python -m stjax.cli``."""

from stjax.cli import main

if __name__ == "__main__":
    main()
