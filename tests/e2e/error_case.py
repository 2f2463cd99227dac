"""An invalid call and its expected error."""

from dataclasses import dataclass, field

from maskmesh import MaskmeshError
from tests.e2e.wrong_calls import Call


@dataclass(frozen=True, slots=True)
class Case:
    """One invalid call and its expected error."""

    rpc: str
    what: str
    call: Call = field(repr=False)
    error: type[MaskmeshError]
    field: str = ""

    @property
    def name(self) -> str:
        return f"{self.rpc}: {self.what}"
