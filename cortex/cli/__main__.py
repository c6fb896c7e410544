"""`python -m cortex.cli`: the command line from a clone."""

from cortex.cli.main import app

app(prog_name="cortex")
