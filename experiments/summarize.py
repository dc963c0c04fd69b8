"""Makes every study's record, and docs/claims.md, from the studies and their runs.

    python -m experiments.summarize [--runs=runs/studies] [--check]

With --runs, the workdir of a sweep of studies, what has finished there comes into the
records first: `experiments/records/<study>/runs.jsonl`, and the pictures that
`experiments.inspect_cells` drew. Each record then gets its protocol (README.md), and
once there are runs its table (table.md) and its picture (curves.svg); the README of the
repository gets its rows. --check writes nothing and fails where a page is not what it
would write.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from alexnet_jax.system import command_line, files
from experiments import (
    claims,
    figures,
    pages,
    paired,
    readme_table,
    report,
    runs,
    studies,
)
from experiments.claims import Claim
from experiments.effects import Found, measured_effect
from experiments.studies.study import Effect, Study

ROOT = Path(__file__).parents[1]
Pages = dict[Path, str]


def record_of(study: Study, root: Path = ROOT) -> Path:
    """The folder of a study's record."""
    return root / 'experiments' / 'records' / study.name


def take_in(folder: Path, root: Path = ROOT) -> None:
    """Brings finished runs of a sweep into the records.

    Raises:
      ValueError: no study's runs are there, or an arm would have two configs.
    """
    found = [
        (study, path)
        for study in studies.STUDIES.values()
        if (path := folder / 'records' / f'{study.name}.jsonl').is_file()
    ]
    if not found:
        raise ValueError(f'--runs={folder} has no records/<study>.jsonl yet')
    merged = {}  # all of it before anything is written
    for study, path in found:
        kept = record_of(study, root) / 'runs.jsonl'
        try:
            both = runs.merged(runs.load(kept), runs.load(path), study.arms)
        except ValueError as error:
            raise ValueError(f'{kept}: {error}') from None
        merged[kept] = both, path.parent / study.name
    for kept, (both, drawn) in merged.items():
        kept.parent.mkdir(parents=True, exist_ok=True)
        runs.save(kept, both)
        for picture in sorted(drawn.glob('*.png')):
            files.write_atomically(kept.parent / picture.name, picture.read_bytes())


def make(root: Path = ROOT) -> Pages:
    """Every page with its content."""
    made: Pages = {}
    effects: list[tuple[Study, Found]] = []
    missing: list[tuple[Study, list[str]]] = []
    for study in studies.STUDIES.values():
        record = record_of(study, root)
        found = runs.load(record / 'runs.jsonl')
        made[record / 'README.md'] = pages.protocol(study, found)
        if found:
            drawn = sorted(path.name for path in record.glob('*.png'))
            made[record / 'table.md'] = pages.table(study, found, drawn)
            picture = record / 'curves.svg'
            old = picture.read_text() if picture.is_file() else ''
            # Another matplotlib draws the same otherwise.
            same = figures.digest_in(old) == figures.digest(study, found)
            made[picture] = old if same else figures.curves(study, found)
        if arms := pages.not_run(study, found):
            missing.append((study, arms if found else []))
        effects += [
            (study, one)
            for effect in study.effects
            if (one := measured_effect(effect, found)) is not None
        ]
    made[root / 'docs' / 'claims.md'] = claims_page(effects, missing)
    readme = root / 'README.md'
    if readme.is_file():
        first = deciding()
        of_claim = {
            one.effect.claim: (f'{one.effect.text}: {one.text()}', one.verdict)
            for _, one in effects
            if one.effect == first.get(one.effect.claim)
        }
        text = readme.read_text()
        made[readme] = readme_table.with_verdicts(text, of_claim)
    return made


def claims_page(
    effects: Sequence[tuple[Study, Found]],
    missing: Sequence[tuple[Study, list[str]]],
) -> str:
    """docs/claims.md.

    Args:
      effects: that were measured.
      missing: each study with arms that have no run, and these arms; an empty list
        stands for all of its arms.
    """
    rows = [_row(claim, effects) for claim in claims.CLAIMS]
    counts = ', '.join(
        f'{sum(row[-2] == verdict for row in rows)} ' + verdict.replace('needs', 'need')
        for verdict in paired.VERDICTS
    )
    measured = sum(
        row[-2] in paired.MEASURED and 'experiments/records' in row[-1] for row in rows
    )
    parts = [
        '# What was claimed, and what was found',
        'Made by `python -m experiments.summarize` from `experiments/claims.py`, '
        '`experiments/studies/` and the runs in `experiments/records/`; its `--check` '
        'fails where this page differs from them.',
        'Four texts of the web about the network are quoted: S0 is of Embodied AI 101, '
        'S1 of Menttor, S2 an unsigned lesson in five bullets, S3 of AcademicJobs; § '
        'is the paper. A sentence is quoted from the first that is named, the others '
        'have it in part or in other words. #145 and such are runs of the released '
        'source; errors are top-1 and top-5, in percent.',
        'In the commands TFDS_DIR is the folder of TensorFlow Datasets '
        '(`~/tensorflow_datasets` unless you chose another), where `python -m '
        'alexnet_jax.prepare --config=cifar10 --config.data.download=True` puts '
        'CIFAR-10. In the sweeps DIR is a folder with the `train/` and `validation/` '
        'of imagenette, elsewhere what the row names. '
        '[preparation.md](preparation.md#the-sets-of-the-results) says what the sets '
        'were here.',
        'Effects are paired by seed, with 95 % intervals (Student’s t). The protocol '
        'of each record says what a verdict needs. It was committed before the study’s '
        'first run, or before its nets were measured; cells that studies share may be '
        'older. What was changed later stands at the end of the protocol. What was not '
        'run is listed [below](#not-run), with its commands.',
        f'{len(rows)} claims: {counts}. Of those with a verdict {measured} rest on '
        'runs here, the others on what was counted, compared or inspected.',
        report.markdown_table(
            ['#', 'claim', 'in 2012', 'here', 'data', 'found', 'verdict', 'in'],
            rows,
        ),
        '## At full scale',
        'Rows 19 to 25 have their commands above. The commands below ask the '
        'paper’s net about the claims for which small nets were trained here. They '
        f'need {claims.BYTES}. The hours are for one H100, {claims.ASSUMED}, with one '
        'seed of each arm, which counts like the base. A verdict needs at least two '
        'seeds.',
        report.markdown_table(
            ['#', 'command', 'hours', 'to expect'],
            [
                [str(claim.number), *_at_full_scale(claim), claim.expected]
                for claim in claims.CLAIMS
                if claim.arms or claim.of_row_20
            ],
        ),
        '## More effects',
        'What the studies found besides, with the same rule: *supported* where the '
        'whole interval is as the column asks, *not supported* where all of it falls '
        'short of what would matter.',
    ]
    decisive = deciding().values()
    more = [
        [
            study.question,
            study.base.images,
            f'{one.effect.text}, {one.effect.measure.name}',
            ', '.join(pages.bounds(one.effect)),
            *(one.text(), one.verdict, _link(study)),
        ]
        for study, one in effects
        if one.effect not in decisive
    ]
    parts.append(
        report.markdown_table(
            [
                *('question', 'data', 'effect', 'asked, and what matters'),
                *('found', 'verdict', 'in'),
            ],
            more,
        )
        if more
        else 'Nothing yet.'
    )
    if missing:
        parts += [
            '## Not run',
            'What no run has been recorded of, each with its command. A study whose '
            'cells need something first, or are measured after, says so in its record. '
            f'Where a verdict is “{paired.INCONCLUSIVE}”, the sweep of its row with '
            '`--seeds=10` adds seeds.',
            report.markdown_table(
                ['study', 'arms', 'command', 'in'],
                [
                    [
                        study.question,
                        ', '.join(arms) or 'all',
                        f'`{pages.sweep_command(study, arms)}`',
                        _link(study),
                    ]
                    for study, arms in missing
                ]
                + [[*line[:2], f'`{line[2]}`', line[3]] for line in claims.NOT_RUN],
            ),
        ]
    parts += [
        '## Slips of these texts',
        'They are not repeated here.',
        report.markdown_table(['text', 'what holds'], claims.SLIPS),
    ]
    return '\n\n'.join(parts) + '\n'


def _at_full_scale(claim: Claim) -> tuple[str, str]:
    """What asks the paper's net, and the hours of its training."""
    if claim.of_row_20:
        return f'`{claim.of_row_20}`', 'row 20’s'
    command = f'python -m experiments.sweep {claim.arms} --base=paper --seeds=1'
    needed = len(claim.arms.split()) * claims.HOURS
    return f'`{command} --workdir=runs/imagenet`', f'{needed:.1f}'


def deciding() -> dict[int, Effect]:
    """By claim the effect of which its verdict is: the first of its study."""
    every = [e for s in studies.STUDIES.values() for e in s.effects if e.claim]
    return {effect.claim: effect for effect in reversed(every)}


def of_one_claim(
    number: int, effects: Sequence[tuple[Study, Found]]
) -> tuple[list[Found], str]:
    """What was measured of a claim, and its verdict; "not run" if nothing decides."""
    shown = [one for _, one in effects if one.effect.claim == number]
    first = deciding().get(number)
    verdicts = [one.verdict for one in shown if one.effect == first]
    return shown, verdicts[0] if verdicts else paired.NOT_RUN


def _row(claim: Claim, effects: Sequence[tuple[Study, Found]]) -> list[str]:
    quoted = f'“{claim.quote}” ({claim.source})'
    start = [str(claim.number), quoted, claim.logged or '—']
    aside = f'; {claim.aside}' if claim.aside else ''
    for study in studies.STUDIES.values():
        if claim.number not in {effect.claim for effect in study.effects}:
            continue
        command = f'`{pages.sweep_command(study)}`'
        if study.inspections:
            command += f', `{pages.inspect_command(study)}`'
        images = study.base.images
        shown, verdict = of_one_claim(claim.number, effects)
        found = '; '.join(
            f'{one.effect.text}, {one.effect.measure.name}: {one.text()}'
            for one in shown
        )
        # The verdict is of the first study; the same one on photographs stands beside.
        first = next(e for e in study.effects if e.claim == claim.number)
        asked = first.text, first.measure.name
        found += ''.join(
            f'; on photographs: {one.text()}, {one.verdict}'
            for other, one in effects
            if other.name == f'{study.name}_photographs'
            and (one.effect.text, one.effect.measure.name) == asked
        )
        found = found + aside if found else '—'
        return [*start, command, images, found, verdict, _link(study)]
    command = f'`{claim.command}`' if claim.command else '—'
    link = f'[{Path(claim.link).parent.name or claim.link}]({claim.link})'
    return [
        *(*start, command, '—', claim.finding or '—', claim.verdict),
        link if claim.link else '—',
    ]


def _link(study: Study) -> str:
    return f'[{study.name}](../experiments/records/{study.name}/README.md)'


def main(argv: Sequence[str]) -> None:
    """Writes what is new, or checks."""
    command_line.reject_positionals(argv)
    with command_line.user_errors():
        if _RUNS.value and _CHECK.value:
            raise ValueError('--check writes nothing, and --runs brings runs in')
        if _RUNS.value:
            take_in(command_line.local_path('runs', _RUNS.value))
        made = make()
    differ = [p for p, t in made.items() if not p.is_file() or p.read_text() != t]
    names = [str(path.relative_to(ROOT)) for path in differ]
    if _CHECK.value and differ:
        sys.exit(
            f'error: {", ".join(names)} differ from what python -m '
            'experiments.summarize makes'
        )
    for path, name in zip(differ, names, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, made[path])
        print(f'written: {name}')
    print(f'{len(made)} pages are as they should be')


if __name__ == '__main__':
    _RUNS = flags.DEFINE_string('runs', '', 'Workdir of a sweep of studies.')
    _CHECK = flags.DEFINE_bool('check', False, 'Fail where a page differs.')
    app.run(main, flags_parser=command_line.parse_flags)
