"""The commands, by name. What a command needs to do its work is imported when it works: `--help` stays quick."""

from cyclopts import App

from workflows_mcp.cli import checkpoints, db, run_page, runs, workflows
from workflows_mcp.cli.demo import demo
from workflows_mcp.cli.doctor import doctor
from workflows_mcp.cli.recover import recover
from workflows_mcp.cli.resume import resume
from workflows_mcp.cli.run import run
from workflows_mcp.cli.stats import stats

__all__ = ["build_app"]

_HELP = """Runs workflows and keeps their state safe: in SQLite or PostgreSQL, through crashes and pauses.

Start with `workflows-mcp demo`. Without `--database-url`, the database is the one that WORKFLOWS_DATABASE_URL names,
or else a SQLite file in your data directory.
"""


def build_app() -> App:
    """The command line as a whole."""
    app = App(name="workflows-mcp", help=_HELP, help_format="markdown", suppress_keyboard_interrupt=False)
    app.command(demo, name="demo")
    app.command(run, name="run")
    app.command(resume, name="resume")
    app.command(recover, name="recover")
    app.command(doctor, name="doctor")
    app.command(stats, name="stats")

    library = App(name="workflows", help="Look at workflows, and check them.")
    library.command(workflows.list_command, name="list")
    library.command(workflows.show_command, name="show")
    library.command(workflows.validate_command, name="validate")
    library.command(workflows.schema_command, name="schema")
    app.command(library)

    whole = App(name="runs", help="Look at runs, end them, or begin new ones where they were.")
    whole.command(runs.list_command, name="list")
    whole.command(run_page.show_command, name="show")
    whole.command(runs.cancel_command, name="cancel")
    whole.command(runs.fork_command, name="fork")
    app.command(whole)

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
