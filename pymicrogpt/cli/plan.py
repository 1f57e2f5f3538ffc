"""--seconds: what to train in a time, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import recipes
from ..corpus import Corpus
from .display import Event
from .settings import Settings
from .terminal import waiting


@dataclass(frozen=True)
class Plan:
    """A time for a training, and the settings that the user chose for it."""

    seconds: float
    given: Mapping[str, Any]

    def to_begin_with(self) -> Settings:
        """What can be said before the text is read. A width that is still to be picked fits."""
        first: dict[str, Any] = {"n_embd": self.given.get("n_head", Settings.n_head)}
        if self.given.get("mode") == "stream":
            first["block_size"] = recipes.text_block_size(self.seconds)
        return Settings(**{**first, **self.given})

    def settled(
        self, settings: Settings, corpus: Corpus, held_out: Corpus | None, threads: int | str
    ) -> tuple[Settings, Event]:
        """With all that was picked; and what there is to tell of it."""
        kept = {name: value for name, value in self.given.items() if name in recipes.KEPT}
        with waiting("measuring the speed of a step"):
            recipe = recipes.recipe(
                corpus,
                self.seconds,
                engine=settings.engine,
                threads=threads,
                held_out=held_out,
                eval_interval=settings.eval_interval,
                **kept,
            )
        picked = {name: getattr(recipe.config, name) for name in SHAPE}
        picked |= {name: getattr(recipe, name) for name in ("batch_size", "learning_rate")}
        picked["max_steps"] = recipe.num_steps
        event: Event = {
            "event": "plan",
            "seconds": self.seconds,
            "spent": recipe.seconds,
            "settings": picked,
            "found": recipe.found,
            "passes": recipe.num_steps * recipe.batch_size / len(corpus),
            "enough": recipe.enough,
        }
        return replace(settings, **picked), event


SHAPE = ("n_layer", "n_embd", "n_head", "block_size")
