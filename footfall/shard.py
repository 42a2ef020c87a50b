"""`python -m footfall shard`: the commands that divide the events among the shards of a sharded MongoDB.

It prints them instead of running them: they need an administrator of the cluster, whose password Footfall does not
have. Exits with 1 if MongoDB is not sharded or does not answer.
"""

import click

from analytics.events.sharding import NotSharded, shard_commands
from config.settings import Settings
from footfall.command_group import fail, open_services


@click.command("shard")
@click.pass_obj
def shard_command(settings: Settings) -> None:
    """Print the commands for mongosh that shard the events. Run them as an administrator of the cluster."""
    with open_services(settings, "mongodb", patience=10.0) as services:
        try:
            commands = shard_commands(services.database)
        except NotSharded:
            fail(
                "MongoDB at MONGODB_URI is not sharded. Start a cluster with config servers, shards and a mongos, and"
                " set MONGODB_URI to the mongos. One replica set needs no sharding: see docs/scaling.md.",
                1,
            )
    click.echo("\n".join(commands))
