"""The pages of a study's record: the protocol, and the table of what was found."""

from collections.abc import Sequence
from pathlib import Path

from experiments import paired, report
from experiments.effects import by_seed, measured_effect
from experiments.runs import Run
from experiments.studies import study as study_lib
from experiments.studies.study import Effect, Measure, Study

MEASURES = (
    study_lib.TRAINING,
    study_lib.VALIDATION,
    study_lib.TEST,
    study_lib.TEN_VIEWS,
)


def protocol(study: Study, runs: Sequence[Run]) -> str:
    """The record's README: everything that is fixed before the first run.

    Args:
      study: which.
      runs: of the record, as far as there are any.
    """
    base = study.base
    of_training = base.load().data.training_error_split
    lines = [
        f'# {study.name}: {study.question}',
        'Made by `experiments.summarize` from the study in `experiments/studies/`, and '
        'committed before its first run; cells that it shares with other studies may '
        'be older. '
        + (
            'What the runs found: [table.md](table.md).'
            if runs
            else 'Nothing has been run.'
        ),
        (f'    {base.made_by}\n' if base.made_by else '')
        + f'    {sweep_command(study, seeds=_seeds_of(runs))}\n'
        + (
            f'    {inspect_command(study, _seeds_of(runs))}\n'
            if study.inspections
            else ''
        )
        + '    python -m experiments.summarize --runs=runs/studies',
        f'**Claim.** {study.claim}.',
        f'**Data.** {base.data}.',
        f'**Net.** {base.network}. Config: `{base.config}`'
        + (' with ' if base.overrides else '')
        + ', '.join(f'`{key}={value}`' for key, value in base.overrides.items())
        + '.',
        f'**Schedule.** {base.schedule}.',
        '**Arms.**',
        report.markdown_table(['arm', 'changes'], _arms(study)),
        f'**Seeds.** {_seeds(study)}',
        '**Metrics.** Loss and error at every evaluation, of validation '
        + ('and of a part of the training images ' if of_training else '')
        + 'in one view without augmentation or dropout; the running training loss and '
        'error at every log line; test loss and error '
        + ('in one view and in ten ' if base.ten_views else 'in one view ')
        + 'at the end. All are of the last step, not of the best.'
        + (
            ' Epochs to a threshold are read off a straight line between the two '
            'evaluations, or log lines, beside it.'
            if any(effect.measure.mark for effect in study.effects)
            else ''
        ),
    ]
    if study.instrument:
        lines.append(
            f'**Measured on the nets.** {study.instrument} Other studies share cells, '
            'which may have been trained before this was committed; none had been '
            'measured so by then.'
        )
    if study.effects:
        lines += [
            '**Rule of the verdict.** Differences are paired by seed; the interval is '
            'Student’s t at 95 %, the bootstrap’s is shown beside it. *Supported*: the '
            'whole interval lies beyond the first bound. *Not supported*: the whole '
            'interval falls short of the second, the smallest effect that would '
            'matter; the first that holds. Else *inconclusive at this scale*, as with '
            'n = 1 and where a run never came to a threshold that is asked for.',
            report.markdown_table(
                ['effect', 'arm', 'against', 'measure', 'supported', 'matters'],
                [
                    [
                        *(effect.text, effect.arm, effect.against or '0'),
                        *(effect.measure.name, *bounds(effect)),
                    ]
                    for effect in study.effects
                ],
            ),
        ]
    if study.remarks:
        lines.append(f'**Remarks.** {study.remarks}')
    lines.append(
        '**Changed after the first run.** '
        + ('; '.join(study.changed_since) or 'Nothing')
        + '.'
    )
    return '\n\n'.join(lines) + '\n'


def sweep_command(study: Study, arms: Sequence[str] = (), seeds: int = 0) -> str:
    """The command that trains a study's cells, or only those of some arms.

    Args:
      study: which.
      arms: none: those that the study runs.
      seeds: how many; no more than the study says need no word.
    """
    words = ['python -m experiments.sweep', *arms]
    return (
        f'{study.environment}{" ".join(words)} --study={study.name} '
        f'--data_dir={study.base.data_dir} --jobs={study.jobs} --workdir=runs/studies'
        f'{_more_seeds(study, seeds)}'
    )


def inspect_command(study: Study, seeds: int = 0) -> str:
    """The command that measures on the nets of a study that asks for it."""
    return (
        f'python -m experiments.inspect_cells --study={study.name} '
        f'--workdir=runs/studies{_more_seeds(study, seeds)}'
    )


def _more_seeds(study: Study, seeds: int) -> str:
    return f' --seeds={seeds}' if seeds > study.seeds else ''


def _seeds_of(runs: Sequence[Run]) -> int:
    return 1 + max((run.seed for run in runs), default=-1)


def not_run(study: Study, runs: Sequence[Run]) -> list[str]:
    """The arms that were to be run and have no run yet."""
    done = {run.arm for run in runs}
    return [arm for arm in study.chosen or study.arms if arm not in done]


def _seeds(study: Study) -> str:
    if study.seeds == 1 and not study.effects:
        return '0 alone: n = 1.'
    first = f'0 to {study.seeds - 1}' if study.seeds > 1 else '0'
    return (
        f'{first} first. While a verdict is “{paired.INCONCLUSIVE}” '
        f'more may be added, up to {study_lib.MOST_SEEDS} in all; intervals are not '
        'corrected for looking more than once. Runs of one seed start alike and see '
        'the same images in the same order.'
    )


def _arms(study: Study) -> list[list[str]]:
    return [
        [arm, ', '.join(f'`{k}={_short(v)}`' for k, v in changes.items()) or 'nothing']
        for arm, changes in study.changes().items()
    ]


def _short(value: object) -> str:
    return f'{value:.5g}' if isinstance(value, float) else str(value)


def bounds(effect: Effect) -> list[str]:
    """What is called supported, and the smallest effect that would matter."""
    beyond, matters = effect.bounds()
    if effect.ratio:
        return [f'ratio > {beyond:g}', f'from {matters:g}']
    more, unit = '>' if effect.sign > 0 else '<', effect.measure.unit
    beyond, matters = (effect.sign * bound + 0.0 for bound in (beyond, matters))
    return [f'{more} {beyond:g}', f'from {matters:g} {unit}']


def _heading(measure: Measure) -> str:
    return f'{measure.name} ({measure.unit})' if measure.unit else measure.name


def table(study: Study, runs: Sequence[Run], pictures: Sequence[str] = ()) -> str:
    """The record's table: what each arm came to, and every effect with its verdict.

    Args:
      study: whose record it is.
      runs: of the record.
      pictures: files in the record that inspections drew.
    """
    arms = [arm for arm in study.arms if any(run.arm == arm for run in runs)]
    measures = [
        measure
        for measure in (*MEASURES, *study.columns)
        if any(measure.of(run) is not None for run in runs)
    ]
    lines = [
        f'# {study.name}: what was found',
        'Made by `experiments.summarize` from [runs.jsonl](runs.jsonl), which has '
        'every metric of every run; the protocol is in [README.md](README.md).',
        '![curves](curves.svg)',
        *(f'![{Path(picture).stem}]({picture})' for picture in pictures),
        report.markdown_table(
            ['arm', 'n', *(_heading(m) for m in measures), 'CPU min'],
            [_row(arm, measures, runs) for arm in arms],
        ),
        'Means ± sample standard deviations over the seeds.',
    ]
    effects = [
        found for e in study.effects if (found := measured_effect(e, runs)) is not None
    ]
    if effects:
        lines += [
            report.markdown_table(
                ['effect', 'arm', 'against', 'measure', 'mean [t interval]',
                 'bootstrap', 'verdict'],
                [
                    [
                        *(f.effect.text, f.arm, f.against or '0'),
                        *(f.effect.measure.name, f.text(), f.bootstrap(), f.verdict),
                    ]
                    for f in effects
                ],
            ),
            'Arm less against, or their ratio (×), paired by seed; 95 % intervals. ≥: '
            'runs of the arm never came there and count with their length, which has '
            'no interval; ?: runs of the other arm did not.',
        ]  # fmt: skip
    if any(sum(run.arm == arm for run in runs) == 1 for arm in arms):
        lines.append('n = 1: another seed may turn such a difference round.')
    if missing := not_run(study, runs):
        lines += ['Not run:', f'    {sweep_command(study, missing)}']
    commits = ', '.join(f'`{c}`' for c in dict.fromkeys(run.commit for run in runs))
    seconds = sum(run.cpu_seconds for run in runs)
    lines.append(
        f'{len(runs)} {"run" if len(runs) == 1 else "runs"} of commit {commits}, '
        f'{seconds / 3600:.1f} hours of CPU time.'
        + (
            ' A run of two commits was stopped at the first and went on at the second.'
            if any(', ' in run.commit for run in runs)
            else ''
        )
    )
    by = dict.fromkeys(run.measured_by for run in runs if run.measured_by)
    if by and study.inspections:
        lines.append(f'The nets were measured by commit `{"`, `".join(by)}`.')
    return '\n\n'.join(lines) + '\n'


def _row(arm: str, measures: Sequence[Measure], runs: Sequence[Run]) -> list[str]:
    own = [run for run in runs if run.arm == arm]
    cells = []
    for measure in measures:
        values, never = by_seed(arm, measure, own)
        if not values:
            cells.append('—')
            continue
        found = paired.interval(list(values.values()))
        text = f'{"≥ " if never else ""}{found.mean:.2f}'
        cells.append(text if found.n == 1 else f'{text} ± {found.deviation:.2f}')
    minutes = sum(run.cpu_seconds for run in own) / 60 / len(own)
    return [arm, str(len(own)), *cells, f'{minutes:.1f}']
