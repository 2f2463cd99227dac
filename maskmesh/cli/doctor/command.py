"""The command ``maskmesh doctor``."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click
import grpc
from rich.text import Text

from maskmesh.cli.doctor.diagnosis import diagnose
from maskmesh.cli.doctor.finding import Finding, Level
from maskmesh.cli.doctor.machine import machine_findings
from maskmesh.cli.doctor.measurement import measure
from maskmesh.cli.doctor.mesh import mesh_findings
from maskmesh.cli.mesh.gateway_options import Gateway, gateway_options, with_gateway
from maskmesh.cli.mesh.local_mesh import MeshError, MeshOptions
from maskmesh.cli.mesh.mesh_options import mesh_options
from maskmesh.cli.run import console, describe, run, verbose_option
from maskmesh.client.async_client import AsyncClient
from maskmesh.errors import MaskmeshError, Unavailable

_STYLES: dict[Level, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "bold red"}


class _Sick(click.ClickException):
    """Something does not work; it was printed before."""

    def show(self, file: Any = None) -> None:
        """Nothing is left to say."""


@click.command()
@gateway_options
@mesh_options
@click.option("--quick", is_flag=True, help="No measured run.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@verbose_option
def doctor(*, gateway: Gateway, quick: bool, as_json: bool, **options: Any) -> None:
    """Examine this machine and a mesh, measure a short run, and say what to do.

    Without --endpoint a mesh is started for the examination; with it a running one is examined, and of this
    machine only what concerns a client:

        maskmesh doctor --endpoint gateway:50050

    The exit status is 0 if everything works, also slowly, and 1 if something does not.
    """
    findings = list(machine_findings(runs_services=gateway.endpoint is None))

    async def work(client: AsyncClient) -> None:
        mesh = await client.mesh()
        findings.extend(mesh_findings(mesh))
        if not quick and not any(finding.level == "problem" for finding in findings):
            with console.status("measuring"):
                findings.extend(diagnose(await measure(client), mesh))

    try:
        run(with_gateway(work, gateway, MeshOptions(**options)))
    except Unavailable as error:
        where = gateway.endpoint or "the gateway that was started"
        advice = "check the address, that it runs, and whether it wants TLS (--tls-ca)"
        findings.append(
            Finding(
                "problem",
                "gateway",
                f"{where} does not answer: {error}",
                advice if gateway.endpoint else "look at its log with --verbose",
            )
        )
    except (MaskmeshError, MeshError, grpc.RpcError) as error:
        findings.append(Finding("problem", "mesh", describe(error)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.level == "problem" for finding in findings):
        raise _Sick("something does not work")


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        line = Text(f"{finding.level:8}", _STYLES[finding.level])
        line.append(f" {finding.subject}: {finding.text}", "")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(Text(f"         -> {finding.advice}", "dim"), soft_wrap=True)
