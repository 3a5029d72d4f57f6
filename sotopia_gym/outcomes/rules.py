"""Reading outcomes by rules: offline, for free, and the same every time."""

from __future__ import annotations

from collections.abc import Sequence

from sotopia_gym.outcomes import division, donation, price
from sotopia_gym.outcomes.base import OutcomeReader, Said
from sotopia_gym.tasks.families import Outcome
from sotopia_gym.tasks.families.division import DivisionSpec
from sotopia_gym.tasks.families.donation import DonationSpec
from sotopia_gym.tasks.families.price import PriceSpec
from sotopia_gym.tasks.schema import OutcomeSpec


class RulesReader(OutcomeReader):
    """Reads what people typed to each other; of other families everything is ``unread``."""

    name = "rules"
    families = frozenset(("price", "division", "donation"))

    def read(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        # Only what is public is handed on, so that no rule can lean on private values.
        match spec.family:
            case "price":
                deal = PriceSpec.model_validate(spec.model_dump())
                return price.read(said, buyer=deal.buyer, seller=deal.seller, listing=deal.listing)
            case "division":
                split = DivisionSpec.model_validate(spec.model_dump())
                one, other = split.values
                return division.read(said, parties=(one, other), items=split.items)
            case "donation":
                gift = DonationSpec.model_validate(spec.model_dump())
                return donation.read(said, asker=gift.asker, giver=gift.giver)
            case _:
                return Outcome(family=spec.family, status="unread")

    async def aread(self, spec: OutcomeSpec, said: Sequence[Said]) -> Outcome:
        return self.read(spec, said)
