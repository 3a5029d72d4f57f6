"""``sotopia-gym rollout``: many episodes at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from sotopia_gym.cli.progress import progress_line

if TYPE_CHECKING:
    from sotopia_gym.envs.dialogue import TurnOrder
    from sotopia_gym.rollout.jobs import Roles, Rules
    from sotopia_gym.rollout.ray_engine import RayEngine

SuiteOption = Annotated[str, typer.Option(help="The suite to play: a name or a .json file.")]
AgentOption = Annotated[str, typer.Option(help="Who it is about.")]
PartnersOption = Annotated[
    list[str] | None,
    typer.Option("--partner", help="Who plays the others; may be repeated. By default the agent."),
]
SplitOption = Annotated[str | None, typer.Option(help="Play only this split of the suite.")]
RolesOption = Annotated[str, typer.Option(help="Roles the agent plays: both, first or second.")]
EveryPartnerOption = Annotated[
    bool, typer.Option("--every-partner", help="Meet every partner instead of one drawn.")
]
RepetitionsOption = Annotated[int, typer.Option(min=1, help="How often each is played.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
TurnOrderOption = Annotated[
    str, typer.Option(help="Who acts when: round-robin, simultaneous or random.")
]
MaxTurnsOption = Annotated[int, typer.Option(min=1, help="Turns an episode lasts at most.")]
MaxSilentTurnsOption = Annotated[
    int, typer.Option(min=1, help="Silent turns in a row after which an episode ends.")
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Episodes played at a time.")]
RequestsOption = Annotated[
    int, typer.Option(min=1, help="Requests in flight at a time, to each endpoint.")
]
MaxCostOption = Annotated[
    float | None, typer.Option(min=0, help="US dollars after which nothing more is begun.")
]
MaxSecondsOption = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which nothing more is begun.")
]
CacheOption = Annotated[Path | None, typer.Option(help="File that keeps model answers.")]
EngineOption = Annotated[
    str, typer.Option(help="Where episodes are played: local, in this process, or ray.")
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        help="The Ray cluster, 'auto' for the one of this machine; by default what RAY_ADDRESS "
        "names, else a Ray of its own."
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Ray workers, each on one CPU; by default 2.")
]
ChunkOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most episodes that a Ray worker is given at a time; by default 32."),
]


def rollout(
    suite: SuiteOption,
    agent: AgentOption,
    journal: Annotated[
        Path, typer.Option(help="Where the episodes are kept; what is in it is not played again.")
    ],
    partner: PartnersOption = None,
    judge: Annotated[str, typer.Option(help="Who scores; 'none' for nobody.")] = "auto",
    split: SplitOption = None,
    roles: RolesOption = "both",
    every_partner: EveryPartnerOption = False,
    repetitions: RepetitionsOption = 1,
    seed: SeedOption = 0,
    turn_order: TurnOrderOption = "round-robin",
    max_turns: MaxTurnsOption = 20,
    max_silent_turns: MaxSilentTurnsOption = 3,
    concurrency: ConcurrencyOption = 64,
    requests: RequestsOption = 8,
    max_cost: MaxCostOption = None,
    max_seconds: MaxSecondsOption = None,
    cache: CacheOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    workers: WorkersOption = None,
    chunk: ChunkOption = None,
) -> None:
    """Play many episodes; run again with the same journal it goes on where it was stopped.

    Episodes that the judge could not score are then judged again, without being played again.

    Exits with 3 where a limit stopped it, with 130 after Ctrl-C, and with 1 if no episode was
    played to its end.
    """
    from sotopia_gym.llm.client import ClientOptions
    from sotopia_gym.rollout.engine import Rollout

    playing = engine_of(engine, ray_address, workers, chunk)
    complete = 0
    with progress_line() as tell:
        run = Rollout(
            suite,
            agent,
            partner or (),
            judge=judge,
            roles=cast("Roles", roles),
            every_partner=every_partner,
            repetitions=repetitions,
            seed=seed,
            rules=rules(turn_order, max_turns, max_silent_turns),
            split=split,
            concurrency=concurrency,
            journal=journal,
            max_seconds=max_seconds,
            max_cost=max_cost,
            options=ClientOptions(max_concurrency=requests, cache=cache),
            progress=tell,
            engine=playing,
        )
        try:
            for episode in run:
                complete += episode.complete
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    typer.echo(f"{run.progress} -> {journal}")
    if interrupted:
        typer.echo(resume_hint(journal), err=True)
        raise typer.Exit(130)
    if run.progress.stopped_by is not None:
        typer.echo(f"stopped: {run.progress.stopped_by}. {resume_hint(journal)}", err=True)
        raise typer.Exit(3)
    if not complete:
        raise typer.Exit(1)


def rules(turn_order: str, max_turns: int, max_silent_turns: int) -> Rules:
    """The rules that options say; whether they make sense the rollout checks."""
    from sotopia_gym.rollout.jobs import Rules

    return Rules(cast("TurnOrder", turn_order), max_turns, max_silent_turns)


def engine_of(
    name: str, address: str | None, workers: int | None, chunk: int | None
) -> Literal["local"] | RayEngine:
    """The engine that options say.

    Raises:
        typer.BadParameter: If there is no such engine, or an option is not for it.
    """
    from sotopia_gym.rollout.ray_engine import RayEngine

    if name not in ("local", "ray"):
        raise typer.BadParameter(f"--engine must be local or ray, got {name!r}.")
    given = {"address": address, "workers": workers, "chunk": chunk}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if name == "ray":
        return RayEngine(**settings)
    if settings:
        options = ", ".join("--ray-address" if k == "address" else f"--{k}" for k in settings)
        raise typer.BadParameter(f"{options}: only for --engine ray; add that or leave them out.")
    return "local"


def resume_hint(journal: Path, option: str = "--journal") -> str:
    """How to go on with what was stopped."""
    return (
        f"What was played is in {journal}; the same command with {option} {journal} plays the rest."
    )
