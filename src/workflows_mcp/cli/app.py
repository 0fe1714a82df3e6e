"""The commands, by name. What a command needs to do its work is imported when it works: `--help` stays quick."""

from cyclopts import App

from workflows_mcp.cli import (
    backups,
    checkpoints,
    db,
    diff,
    erase,
    grants,
    keys,
    pins,
    prune,
    run_page,
    runs,
    transfer,
    workflows,
)
from workflows_mcp.cli.demo import demo
from workflows_mcp.cli.doctor import doctor
from workflows_mcp.cli.recover import recover
from workflows_mcp.cli.rekey import rekey_command
from workflows_mcp.cli.resume import resume
from workflows_mcp.cli.run import run
from workflows_mcp.cli.serve import serve
from workflows_mcp.cli.stats import stats
from workflows_mcp.cli.ui import ui
from workflows_mcp.cli.watch import watch

__all__ = ["build_app"]

_HELP = """Runs workflows and keeps their state safe: in SQLite or PostgreSQL, through crashes and pauses.

Start with `workflows-mcp demo`. Without `--database-url`, the database is the one that WORKFLOWS_DATABASE_URL names,
or else a SQLite file in your data directory.
"""


def build_app() -> App:
    """The command line as a whole."""
    app = App(name="workflows-mcp", help=_HELP, help_format="markdown", suppress_keyboard_interrupt=False)
    alone = (demo, serve, ui, run, resume, recover, watch, doctor, stats)
    for command in alone:
        app.command(command, name=command.__name__)

    library = App(name="workflows", help="Look at workflows, and check them.")
    library.command(workflows.list_command, name="list")
    library.command(workflows.show_command, name="show")
    library.command(workflows.validate_command, name="validate")
    library.command(workflows.schema_command, name="schema")
    app.command(library)

    whole = App(name="runs", help="Look at runs, end them, begin new ones where they were, or erase them.")
    whole.command(runs.list_command, name="list")
    whole.command(run_page.show_command, name="show")
    whole.command(runs.cancel_command, name="cancel")
    whole.command(runs.fork_command, name="fork")
    whole.command(erase.delete_command, name="delete")
    app.command(whole)

    listing = App(name="checkpoints", help="Look at what is stored, move it, and delete what is old.")
    listing.command(checkpoints.list_command, name="list")
    listing.command(checkpoints.show_command, name="show")
    listing.command(diff.diff_command, name="diff")
    listing.command(prune.prune_command, name="prune")
    listing.command(pins.pin_command, name="pin")
    listing.command(pins.unpin_command, name="unpin")
    listing.command(pins.delete_command, name="delete")
    listing.command(rekey_command, name="rekey")
    listing.command(transfer.export_command, name="export")
    listing.command(transfer.import_command, name="import")
    listing.command(transfer.copy_command, name="copy")
    app.command(listing)

    ring = App(name="keys", help="Make keys that checkpoints are sealed with, and see what each of them seals.")
    ring.command(keys.new_command, name="new")
    ring.command(keys.list_command, name="list")
    app.command(ring)

    schema = App(name="db", help="Bring the schema of a database up to date, back it up, restore it.")
    schema.command(db.upgrade_command, name="upgrade")
    schema.command(db.downgrade_command, name="downgrade")
    schema.command(db.current_command, name="current")
    schema.command(db.check_command, name="check")
    schema.command(grants.grants_command, name="grants")
    schema.command(backups.backup_command, name="backup")
    schema.command(backups.restore_command, name="restore")
    schema.command(backups.vacuum_command, name="vacuum")
    app.command(schema)
    return app
