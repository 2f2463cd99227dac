"""Write the reference of the public API from the comments of its protos.

python -m tools.make_api_reference docs/api.md
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent.parent / "protos"
PUBLIC = "maskmesh/v1"

_FIELD, _ENUM, _MESSAGE, _SERVICE = 2, 5, 4, 6
_TYPES = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in descriptor_pb2.FieldDescriptorProto.Type.items()
}

HEADER = """# API reference

Written by `python -m tools.make_api_reference docs/api.md` from the comments in `protos/maskmesh/v1/`; a
test compares them. [errors.md](errors.md) lists every invalid call with its error.
"""

Comments = Mapping[tuple[int, ...], str]


def reference() -> str:
    """The content of docs/api.md."""
    described = _files()
    lines = [HEADER]
    services = [(file, comments) for file, comments in described if file.service]
    for file, comments in services:
        for number, service in enumerate(file.service):
            lines += [f"## {service.name}", "", _text(comments, _SERVICE, number), ""]
            for index, method in enumerate(service.method):
                request, response = (
                    f"{'stream ' if streams else ''}{_linked(kind)}"
                    for kind, streams in (
                        (method.input_type, method.client_streaming),
                        (method.output_type, method.server_streaming),
                    )
                )
                lines += [f"### {method.name}", "", f"{request} → {response}", ""]
                lines += [_text(comments, _SERVICE, number, 2, index), ""]
    lines += ["## Messages", ""]
    for file, comments in described:
        for number, message in enumerate(file.message_type):
            lines += list(_message(message, comments, number))
    lines += ["## Enumerations", ""]
    for file, comments in described:
        for number, enum in enumerate(file.enum_type):
            lines += [
                f"### {enum.name}",
                "",
                _text(comments, _ENUM, number),
                "",
                "| value | meaning |",
                "|---|---|",
            ]
            for index, value in enumerate(enum.value):
                lines.append(f"| `{value.name}` | {_text(comments, _ENUM, number, 2, index)} |")
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _files() -> list[tuple[descriptor_pb2.FileDescriptorProto, Comments]]:
    """The public files with the comments of their elements, by path."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PUBLIC).glob("*.proto"))
        include = files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{PROTOS}", f"-I{include}", "--include_source_info"]
        if protoc.main([*arguments, f"--descriptor_set_out={out}", *sources]):
            raise SystemExit("protoc failed")
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    # The service first, then what it uses.
    ordered = sorted(found.file, key=lambda file: (not file.service, file.name))
    return [(f, {tuple(s.path): s.leading_comments for s in f.source_code_info.location}) for f in ordered]


def _text(comments: Comments, *path: int) -> str:
    """A comment as one paragraph, with empty lines kept."""
    paragraphs = comments.get(path, "").strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in p.splitlines()) for p in paragraphs).replace(
        "|", "\\|"
    )


def _message(message: descriptor_pb2.DescriptorProto, comments: Comments, number: int) -> Iterator[str]:
    yield from (f"### {message.name}", "", _text(comments, _MESSAGE, number), "")
    if not message.field:
        return
    yield from ("| field | type | meaning |", "|---|---|---|")
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for index, field in enumerate(message.field):
        kind = _linked(field.type_name) if field.type_name else _TYPES[field.type]
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            kind = f"map of {_TYPES[entry.field[0].type]} to {_TYPES[entry.field[1].type]}"
        elif field.label == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED:
            kind = f"repeated {kind}"
        elif field.proto3_optional:
            kind = f"optional {kind}"
        elif field.HasField("oneof_index"):
            kind = f"{kind}, one of `{message.oneof_decl[field.oneof_index].name}`"
        yield f"| `{field.name}` | {kind} | {_text(comments, _MESSAGE, number, _FIELD, index)} |"
    yield ""


def _linked(type_name: str) -> str:
    """The name of a type, as a link if it is on the page."""
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})" if type_name.startswith(".maskmesh.v1.") else name


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
