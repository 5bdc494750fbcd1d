"""`budget`: an operator's raise at three in the morning, which ends by itself."""

import argparse

from exporter.cli.arguments import add_end, add_reason, add_scope, end, scope
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.overrule import overrule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which budget, how much, and until when."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    setting = actions.add_parser(
        "set", help="give it another amount, until a time", allow_abbrev=False
    )
    add_scope(setting)
    setting.add_argument("amount", help="in the unit of the budget: 3M, 1e6, 250 or 12.50")
    add_end(setting.add_mutually_exclusive_group(required=True))
    reset = actions.add_parser("reset", help="as configured again", allow_abbrev=False)
    add_scope(reset)
    reset.set_defaults(amount=None)
    for each in (setting, reset):
        each.add_argument("--period", help="which budget, where there are several: day, 5h, …")
        each.add_argument("--unit", choices=("tokens", "requests", "usd"), help="the same")
        each.add_argument("--per", choices=("model", "consumer"), help="the same")
        add_reason(each)
        add_connection(each)


def run(options: argparse.Namespace) -> int:
    """0 when the exporter took it, else 1; shows the provider as it then is."""
    given = {name: getattr(options, name) for name in ("period", "unit", "per")}
    wish = {name: value for name, value in given.items() if value} | scope(options)
    if options.amount is not None:
        wish["until"] = end(options)
    wish["reason"] = options.reason
    return overrule(options, "/budget", {"amount": options.amount, **wish})
