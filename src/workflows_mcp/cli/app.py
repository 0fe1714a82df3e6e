"""The commands, by name. What a command needs to do its work is imported when it works: `--help` stays quick."""

from cyclopts import App

from workflows_mcp.cli import checkpoints, db, runs
from workflows_mcp.cli.demo import demo

__all__ = ["build_app"]

_HELP = """Runs workflows and keeps their state safe: in SQLite or PostgreSQL, through crashes and pauses.

Start with `workflows-mcp demo`. Without `--database-url`, the database is the one that WORKFLOWS_DATABASE_URL names,
or else a SQLite file in your data directory.
"""


def build_app() -> App:
    """The command line as a whole."""
    app = App(name="workflows-mcp", help=_HELP, help_format="markdown", suppress_keyboard_interrupt=False)
    app.command(demo, name="demo")
    app.command(runs.run, name="run")
    app.command(runs.resume, name="resume")
    app.command(runs.recover, name="recover")

    listing = App(name="checkpoints", help="Look at what is stored.")
    listing.command(checkpoints.list_command, name="list")
    listing.command(checkpoints.show_command, name="show")
    app.command(listing)

    schema = App(name="db", help="Bring the schema of a database up to date, or look at it.")
    schema.command(db.upgrade_command, name="upgrade")
    schema.command(db.downgrade_command, name="downgrade")
    schema.command(db.current_command, name="current")
    schema.command(db.check_command, name="check")
    app.command(schema)
    return app
