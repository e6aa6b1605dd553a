"""``python -m engine`` is ``meridian``."""

from engine.cli import main

main()
