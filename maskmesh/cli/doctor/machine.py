"""This machine: processor, memory, disk, versions, and variables that have an effect."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from maskmesh.checkpoints.catalogue import checkpoint_folder
from maskmesh.cli.doctor.finding import Finding
from maskmesh.cli.mesh.resources import instruction_sets
from maskmesh.config import DEFAULT_SHARED_MEMORY_DIR, variables_with
from maskmesh.scheduling.control_groups import available_cores, memory_available, memory_limit
from maskmesh.scheduling.process_usage import processor
from maskmesh.version import __version__

_PACKAGES = ("torch", "grpcio", "protobuf", "numpy", "opentelemetry-sdk", "av", "pillow")

# A frame at 1024 x 1024 has an embedding of 8 MiB in bfloat16.
MIN_SHARED_MEMORY_BYTES = 256 * 2**20
MIN_MEMORY_BYTES = 2 * 2**30
MIN_DISK_BYTES = 2 * 2**30

_PREFIXES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_", "NO_PROXY", "NO_GRPC_PROXY", "OMP_", "MKL_", "KMP_",
    "TORCH", "PYTORCH", "CUDA_", "OTEL_", "MASKMESH_", "LD_PRELOAD", "MALLOC_", "PYTHONPATH",
)  # fmt: skip
# In the order of gRPC, which reads these in lower case only.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_SECRET = ("KEY", "TOKEN", "HEADERS", "PASSWORD")
_USER_INFO = re.compile(r"(\w+://)[^/@\s]*@")


def machine_findings(
    variables: Mapping[str, str] | None = None, *, runs_services: bool = True
) -> Iterator[Finding]:
    """What this machine is, and what of it is in the way.

    ``runs_services`` is whether a mesh runs here, or only its client.
    """
    yield from _versions()
    if runs_services:
        yield from _processor()
        yield from _memory()
        yield from _disk()
    yield from variable_findings(variables_with(_PREFIXES) if variables is None else variables)


def _versions() -> Iterator[Finding]:
    found = {"maskmesh": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    yield Finding("ok", "versions", ", ".join(f"{name} {number}" for name, number in found.items()))
    if found["torch"] == "not installed":
        yield Finding(
            "note",
            "versions",
            "torch is not installed, so no services can be started here",
            "pip install 'maskmesh[services]', or give --endpoint of a running gateway",
        )
    if sys.platform == "win32":
        yield Finding("note", "platform", "services run on Linux and macOS", "give --endpoint of a gateway")


def _processor() -> Iterator[Finding]:
    sets = instruction_sets()
    yield Finding("ok", "processor", f"{processor()}; {', '.join(sets) or 'no vector sets that are used'}")
    if "amx_bf16" not in sets:
        yield Finding("note", "processor", "no matrix units (AMX): large models take several times longer")
    granted, seen = available_cores(), os.cpu_count() or 1
    yield Finding("ok", "cores", f"{granted} granted of {seen} seen")
    if granted < 2:
        yield Finding(
            "warning",
            "cores",
            "encoder and tracker share one core",
            "grant two cores or more, for example docker run --cpus 2, or resources.limits.cpu in Kubernetes",
        )
    load = psutil.getloadavg()[0]  # of the machine, whatever is granted of it
    if load > seen + 1:
        yield Finding(
            "warning",
            "load",
            f"the machine is busy: a load of {load:.1f} on {seen} cores",
            "end what runs beside maskmesh before figures are trusted",
        )


def _memory() -> Iterator[Finding]:
    machine = psutil.virtual_memory()
    limit = memory_limit()
    granted = min(machine.total, limit or machine.total)
    of = "the container's limit" if limit is not None and limit < machine.total else "the machine"
    free = min(machine.available, memory_available() or machine.available) / 2**30
    yield Finding("ok", "memory", f"{granted / 2**30:.1f} GiB ({of}), {free:.1f} GiB free")
    if granted < MIN_MEMORY_BYTES:
        yield Finding(
            "warning",
            "memory",
            f"{granted / 2**30:.1f} GiB are little for a mesh on one machine",
            "grant 2 GiB for micro and 4 GiB for sam2.1-tiny, or use --preset auto",
        )
    if DEFAULT_SHARED_MEMORY_DIR is not None:
        room = shutil.disk_usage(DEFAULT_SHARED_MEMORY_DIR).free
        yield Finding("ok", "shared memory", f"{room / 2**20:.0f} MiB free in {DEFAULT_SHARED_MEMORY_DIR}")
        if room < MIN_SHARED_MEMORY_BYTES:
            yield Finding(
                "warning",
                "shared memory",
                "embeddings will go through gRPC, because shared memory is small",
                "docker run --shm-size 1g, or an emptyDir with medium Memory in Kubernetes",
            )


def _disk() -> Iterator[Finding]:
    folders = {
        "frames and archives": Path(tempfile.gettempdir()),
        "checkpoints": _existing(checkpoint_folder()),
    }
    for what, folder in folders.items():
        free = shutil.disk_usage(folder).free
        text = f"{free / 2**30:.1f} GiB free for {what} in {folder}"
        if free < MIN_DISK_BYTES:
            advice = "make room, or set TMPDIR and XDG_CACHE_HOME to other disks"
            yield Finding("warning", "disk", text, advice)
        else:
            yield Finding("ok", "disk", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def variable_findings(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Environment variables that change what maskmesh does, those that bite with advice."""
    shown = {name: _shown(name, value) for name, value in variables.items()}
    if shown:
        yield Finding("note", "variables", ", ".join(f"{name}={value}" for name, value in shown.items()))
    upper = {name.upper(): value for name, value in variables.items() if value}
    proxy = next((name for name in _PROXIES if variables.get(name)), None)
    if proxy is not None:
        exceptions = next((variables[name] for name in _EXCEPTIONS if variables.get(name)), "")
        yield Finding(
            "warning" if not exceptions else "note",
            "proxy",
            f"{proxy} is set, so gRPC calls to other machines go through {_host(variables[proxy])}"
            + (f", but for {exceptions}" if exceptions else ""),
            "set no_grpc_proxy to the hosts of the mesh" if not exceptions else "",
        )
    cores = available_cores()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        # More than there are cores have no effect: services take as many as are granted at most.
        if upper.get(name, "").isdecimal() and int(upper[name]) < cores:
            yield Finding(
                "warning",
                "threads",
                f"{name}={upper[name]} on {cores} cores: cores stay idle",
                f"unset {name}, or set --threads",
            )
    if upper.get("CUDA_VISIBLE_DEVICES") == "" or variables.get("CUDA_VISIBLE_DEVICES") == "":
        yield Finding("warning", "device", "CUDA_VISIBLE_DEVICES is empty, which hides all GPUs", "unset it")
    if upper.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding("note", "traces", "OTEL_SDK_DISABLED: there are no traces and no metrics", "unset it")
    if "GRPC_VERBOSITY" in upper or "GRPC_TRACE" in upper:
        yield Finding("warning", "gRPC", "GRPC_TRACE or GRPC_VERBOSITY slow calls down", "unset them")
    if "LD_PRELOAD" in upper:
        yield Finding("note", "allocator", f"LD_PRELOAD={upper['LD_PRELOAD']} may replace the allocator")


def _shown(name: str, value: str) -> str:
    """A value without secrets."""
    if any(secret in name.upper() for secret in _SECRET):
        return "..."
    if name.upper().endswith("_PROXY") and "NO_" not in name.upper() and value:
        return _host(value)
    return _USER_INFO.sub(r"\1...@", value)


def _host(url: str) -> str:
    """The host of a proxy, without its password."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
