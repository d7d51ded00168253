"""Stories by name: what a job's journey is told by."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(frozen=True)
class Story(Generic[Q, R]):
    """A registered story; calling it calls the function."""

    name: str
    tell: Callable[[Any, Q, Any], R]

    def __call__(self, steps: Any, request: Q, journal: Any) -> R:
        return self.tell(steps, request, journal)

    def types(self) -> tuple[TypeAdapter[Q], TypeAdapter[R]]:
        """Of its request and its result, from its annotations: any plain value that pydantic can write as JSON."""
        hints = get_type_hints(self.tell)
        parameters = list(signature(self.tell).parameters)
        return TypeAdapter(hints.get(parameters[1], Any)), TypeAdapter(hints.get("return", Any))


stories: dict[str, Story[Any, Any]] = {}


def story(name: str) -> Callable[[Callable[[Any, Q, Any], R]], Story[Q, R]]:
    """Registers a story under a name that stays the same for ever: databases remember it."""

    def register(tell: Callable[[Any, Q, Any], R]) -> Story[Q, R]:
        stories[name] = made = Story(name, tell)
        return made

    return register
