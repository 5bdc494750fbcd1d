"""The arguments of `serve`."""

import argparse
from pathlib import Path

from exporter.cli import listening, logs
from exporter.cli.arguments import add_storage, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names as other Prometheus servers have them."""
    parser.add_argument(
        "--config.file",
        dest="config",
        type=Path,
        default=Path("config/quota.yml"),
        metavar="FILE",
        help="budgets and everything else (default: %(default)s)",
    )
    parser.add_argument(
        "--config.enable-auto-reload",
        dest="auto_reload",
        action="store_true",
        help="reload when a configuration file, or a file it names, holds something else",
    )
    parser.add_argument(
        "--config.auto-reload-interval",
        dest="auto_reload_interval",
        type=duration,
        default=30.0,
        metavar="DURATION",
        help="time between two looks at the files (default: 30s)",
    )
    add_storage(parser)
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        type=listening.address,
        action="append",
        metavar="HOST:PORT",
        help="where to listen, may be given several times (default: :10042)",
    )
    parser.add_argument(
        "--web.systemd-socket",
        dest="systemd",
        action="store_true",
        help="listen on the sockets that systemd passes, instead of addresses",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web",
        type=Path,
        metavar="FILE",
        help="TLS and basic auth, in the format of Prometheus' exporter-toolkit",
    )
    parser.add_argument(
        "--otlp.grpc-address",
        dest="grpc",
        type=listening.address,
        metavar="HOST:PORT",
        help="where to listen for OTLP over gRPC, mostly :4317 (default: nowhere)",
    )
    parser.add_argument(
        "--web.external-url",
        dest="external_url",
        metavar="URL",
        help="how clients reach it, if through a proxy; its path is the default of the prefix",
    )
    parser.add_argument(
        "--web.route-prefix",
        dest="route_prefix",
        metavar="PATH",
        help="how the paths of all routes begin here (default: the path of --web.external-url)",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow POST /-/reload",
    )
    parser.add_argument("--log.level", dest="level", choices=logs.LEVELS, default="info")
    parser.add_argument("--log.format", dest="form", choices=logs.FORMATS, default="logfmt")
