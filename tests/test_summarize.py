"""Records: what a run leaves in one, what is made of it, and that it can be checked."""

import dataclasses
import json
import math
import re
import shlex
import statistics
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from alexnet_jax.analysis import prediction
from alexnet_jax.configs import paper
from alexnet_jax.run import trained
from experiments import (
    ablations,
    cells,
    claims,
    figures,
    pages,
    paired,
    readme_table,
    runs,
    studies,
    study_cells,
    summarize,
    sweep,
)
from experiments.effects import measured_effect
from experiments.studies import figure1, study
from tests.conftest import make_small, read_metrics, run_here


def make_run(arm: str, seed: int, errors: list[float], **ends: float) -> runs.Run:
    """Ten steps an epoch, an evaluation after each."""
    steps = [10 * (i + 1) for i in range(len(errors))]
    curve = [[step, error] for step, error in zip(steps, errors, strict=True)]
    series = {'train/top1_error': curve, 'val/top1_error': curve} | {
        f'{name.replace("__", "/")}': [[steps[-1], value]]
        for name, value in ends.items()
    }
    return runs.Run(
        arm, seed, 'abc', steps[-1], float(len(errors)), 'c', 9.0, 8.0, series
    )


def lrn_runs() -> list[runs.Run]:
    ends = {
        'base': (0.30, 0.31, 0.305, 0.29, 0.30),
        'no_lrn': (0.32, 0.33, 0.32, 0.31, 0.325),
    }
    return [
        make_run(arm, seed, [0.6, 0.4], test__top1_error=error)
        for arm, errors in ends.items()
        for seed, error in enumerate(errors)
    ]


def test_a_run_measures_the_training_error_in_one_view_at_every_evaluation(whole_run):
    lines = read_metrics(whole_run['workdir'])
    evaluations = [line for line in lines if 'val/loss' in line]
    assert len(evaluations) > 2
    assert all('train_view/loss' in line for line in evaluations)
    # As what it is: 70 images without crops, mirrors and dropout.
    last = trained.load(whole_run['workdir'], which='latest')
    changes = {'validation_split': last.config.data.training_error_split}
    split = prediction.open_split(last, 'validation', changes)
    seen = prediction.predict(last, split, 1)
    theirs = prediction.errors(seen.log_probabilities, seen.labels)
    assert len(seen.labels) == 70
    logged = evaluations[-1]
    assert logged['train_view/loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    assert logged['train_view/top1_error'] == pytest.approx(theirs['top1_error'])


def test_a_records_line_has_every_metric_of_the_run(whole_run, small_values, tmp_path):
    config = make_small(small_values)
    cell = cells.Cell('base', 0, config, (), whole_run['workdir'])
    run = runs.read(cell)
    assert run is not None
    logged = {}
    for line in read_metrics(whole_run['workdir']):
        for name, value in line.items():
            logged.setdefault(name, []).append([line['step'], value])
    for name in ('train/loss', 'train_view/top1_error', 'val/loss', 'test/top5_error'):
        assert np.allclose(run.series[name], logged[name], rtol=1e-5)
    assert (run.steps, run.checkpoint) == (20, 'base-s0/checkpoints/20')
    assert re.fullmatch(r'[0-9a-f]{12}\+?', run.commit)
    runs.save(tmp_path / 'runs.jsonl', [run])
    assert runs.load(tmp_path / 'runs.jsonl') == [run]
    # Not before its ten views are there.
    assert runs.read(dataclasses.replace(cell, evaluate=('evaluate',))) is None


def test_epochs_to_a_threshold_lie_between_two_evaluations():
    run = make_run('a', 0, [0.9, 0.5, 0.1])
    assert run.epochs_to('val/top1_error', 0.3) == pytest.approx(2.5)
    assert run.epochs_to('val/top1_error', 0.95) == pytest.approx(1.0)
    assert run.epochs_to('val/top1_error', 0.05) is None


def test_a_reader_who_recomputes_an_effect_gets_the_tables_number():
    made = lrn_runs()
    text = pages.table(studies.named('lrn'), made)
    differences = [2.0, 2.0, 1.5, 2.0, 2.5]
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    half = 2.776 * deviation / math.sqrt(5)
    shown = f'{mean:+.2f} points [{mean - half:+.2f}, {mean + half:+.2f}], n = 5'
    assert f'| {shown} |' in text
    assert '| supported |' in text
    assert '| no_lrn | 5 |' in text and '32.10 ± 0.74' in text


def test_the_best_rate_of_each_activation_is_compared_and_a_bound_is_called_one():
    relu = [0.5, 0.24, 0.1, 0.1]
    tanh = [0.9, 0.7, 0.5, 0.4]
    made = [
        make_run(arm, seed, errors)
        for arm, errors in (
            ('relu_0.001', [0.9, 0.8, 0.3, 0.2]),
            ('relu_0.003', relu),
            ('tanh_0.003', tanh),
        )
        for seed in range(3)
    ]
    made = [
        dataclasses.replace(
            run, series={k: [[s, v + 1e-3 * run.seed] for s, v in p]
                         for k, p in run.series.items()},
        )
        for run in made
    ]  # fmt: skip
    wanted = next(s for s in figure1.STUDIES if s.name == 'figure1').effects[0]
    one = measured_effect(wanted, made)
    assert one is not None and (one.arm, one.against) == ('tanh_0.003', 'relu_0.003')
    # tanh never came to 25 % in 4 epochs, ReLU did in just under 2: how far apart the
    # seeds would have been is not known.
    assert one.text().startswith('≥ 2.0') and one.verdict == paired.INCONCLUSIVE
    assert one.text().endswith(' × (n = 3)') and one.bootstrap() == '—'
    swapped = dataclasses.replace(wanted, arm='relu_*', against='tanh_*')
    other = measured_effect(swapped, made)
    assert other is not None and other.verdict == paired.INCONCLUSIVE


def test_one_seed_decides_nothing_and_says_so():
    made = [run for run in lrn_runs() if run.seed == 0]
    text = pages.table(studies.named('lrn'), made)
    assert '+2.00 points (n = 1)' in text
    assert f'| {paired.INCONCLUSIVE} |' in text and '| supported |' not in text


@pytest.mark.parametrize('name', studies.STUDIES)
def test_a_study_can_be_run_and_its_protocol_says_what_it_fixes(name, tmp_path):
    one = studies.named(name)
    made = sweep.of_study(one, (), tmp_path, places={'data.data_dir': 'DIR'})
    assert len(made.cells) == len(one.chosen or one.arms) * one.seeds
    assert all('--config.data.data_dir=DIR' in cell.train for cell in made.cells)
    assert {e.arm for e in one.effects if '*' not in e.arm} <= set(one.arms)
    assert {e.against for e in one.effects if '*' not in e.against} <= {*one.arms, ''}
    text = pages.protocol(one, [])
    for word in (one.claim, one.base.data, one.base.schedule, *one.arms):
        assert word in text
    for effect in one.effects:
        assert f'| {effect.text} | {effect.arm} |' in text


def test_runs_are_kept_as_they_end(whole_run, small_values, tmp_path):
    cell = cells.Cell('base', 0, make_small(small_values), (), whole_run['workdir'])
    waiting = cells.Cell('no_lrn', 0, cell.config, (), tmp_path / 'no_lrn-s0')
    one = sweep.Sweep(studies.named('lrn'), [cell, waiting], tmp_path)
    kept = tmp_path / 'records' / 'lrn.jsonl'
    for _ in range(2):  # once
        sweep.keep_runs(one)
        assert [run.arm for run in runs.load(kept)] == ['base']


def test_a_record_has_one_config_for_an_arm(tmp_path):
    one, other = (
        dataclasses.replace(run, digest=digest)
        for run, digest in zip(lrn_runs(), ('a', 'b'), strict=False)
    )
    with pytest.raises(ValueError, match='base: seeds 0 and 1 were trained with diff'):
        runs.merged([one], [other], ['base'])
    lines = lrn_runs()[:2]
    kept = tmp_path / 'records' / 'lrn.jsonl'
    kept.parent.mkdir()
    study = studies.named('lrn')
    made = sweep.of_study(study, ['base'], tmp_path, places={})
    runs.save(kept, lines)
    study_cells.keep_runs(made)
    assert runs.load(kept) == lines  # from before there were digests
    digest = made.cells[0].digest
    lines = [dataclasses.replace(lines[0], digest=digest), other]
    runs.save(kept, lines)
    study_cells.keep_runs(made)
    assert runs.load(kept) == lines[:1]
    early = dataclasses.replace(one, digest='')
    assert runs.merged([early], [other], ['base']) == [early, other]
    assert runs.merged([one], [dataclasses.replace(one, digest='b')], ['base'])


def test_commands_of_a_cell_make_the_config_that_was_validated(tmp_path):
    """Overrides come in another order than the base computes in."""
    for name in ('towers', 'figure1', 'transfer'):
        made = sweep.of_study(studies.named(name), (), tmp_path, places={})
        for cell in made.cells[:5]:
            words = [w for w in cell.train if w.startswith('--config')]
            done = run_here('alexnet_jax.main', *words, '--summary')
            assert done.status == 0, done
    base = studies.named('lrn').base.load()
    # He's deviation for half of the inputs.
    assert base.model.conv2.init_std == pytest.approx(math.sqrt(2 / (25 * 12)))


def test_cells_of_a_seed_start_from_that_seeds_run_and_read_its_images(tmp_path):
    one = studies.named('transfer')
    made = sweep.of_study(one, (), tmp_path, places={'data.data_dir': 'DIR'}).cells
    by_name = {cell.name: cell for cell in made}
    fine, scratch = (by_name[f'{arm}_30_0.006-s2'] for arm in ('finetuned', 'scratch'))
    assert fine.starts_from == by_name['pretrained-s2'].workdir
    assert scratch.starts_from is by_name['pretrained-s2'].starts_from is None
    assert f'--config.init.workdir={fine.starts_from}' in fine.train
    for cell in (fine, scratch):
        assert cell.config.data.source == 'folder'
        assert cell.config.data.train_split == 'few30_s2'
        assert '--config.data.train_split=few30_s2' in cell.train
    # Beside its start nothing of an arm is another than from scratch.
    unlike = {w.split('=')[0] for w in {*fine.train} ^ {*scratch.train}}
    assert unlike == {'--config.init.workdir', '--config.init.copy', '--workdir'}


def test_a_picture_is_in_steps_where_epochs_differ():
    made = [
        dataclasses.replace(run, arm=arm, epochs=epochs)
        for arm, epochs in (('finetuned_10_0.002', 100.0), ('pretrained', 2.0))
        for run in (make_run('base', 0, [0.6, 0.4]),)
    ]
    study_of = studies.named('transfer')
    words = ''.join(ElementTree.fromstring(figures.curves(study_of, made)).itertext())
    assert 'step' in words and 'epoch' not in words and '100' not in words


def test_a_picture_shows_the_thresholds_that_are_asked_for():
    def lines(name: str, arm: str) -> int:
        svg = figures.curves(studies.named(name), [make_run(arm, 0, [0.6, 0.4])])
        return svg.count('stroke: #888888')

    assert lines('figure1', 'relu_0.001') == 2  # 40 % and 25 %
    assert lines('lrn', 'base') == 0


def test_every_claim_has_a_row_with_a_verdict():
    page = summarize.claims_page([], [])
    first, _ = page.split('## At full scale')
    rows = re.findall(r'^\| (\d+) \| (.*) \|$', first, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 35))
    assert all(row.split(' | ')[-2] in paired.VERDICTS for _, row in rows)
    decided = {e.claim for s in studies.STUDIES.values() for e in s.effects} - {0}
    assert decided <= {claim.number for claim in claims.CLAIMS}
    one = measured_effect(studies.named('lrn').effects[0], lrn_runs())
    assert one is not None
    page = summarize.claims_page([(studies.named('lrn'), one)], [])
    row = next(line for line in page.splitlines() if line.startswith('| 7 |'))
    assert '+2.00 points' in row and '| supported |' in row
    assert 'with a verdict 2 rest on runs here' in page


def test_the_first_effect_of_a_claim_decides_and_the_others_stand_beside_it():
    one = studies.named('augmentation')
    made = [
        make_run(arm, seed, [error], test__top1_error=error + 0.001 * seed)
        for arm, error in (('base', 0.4), ('no_crop_no_mirror', 0.3))
        for seed in (0, 1)
    ]
    for run in made:
        gap = 0.1 if run.arm == 'base' else 0.2
        run.series['train_view/top1_error'] = [
            [step, value - gap] for step, value in run.series['val/top1_error']
        ]
    found = [measured_effect(effect, made) for effect in one.effects]
    effects = [(one, effect) for effect in found if effect is not None]
    page = summarize.claims_page(effects, [])
    row = next(line for line in page.splitlines() if line.startswith('| 10 |'))
    assert 'the gap with neither crops nor mirrors' in row and '+10.00 points' in row
    assert 'neither crops nor mirrors, test error' in row and '| supported |' in row
    more = page.split('## More effects')[1].split('## ')[0]
    assert 'neither crops nor mirrors, test error' in more and 'the gap' not in more


def test_what_was_not_run_is_listed_with_a_command_that_runs_just_that(tmp_path):
    lrn, figure = studies.named('lrn'), studies.named('figure1')
    made = lrn_runs()
    command = pages.sweep_command(lrn, ['lrn_conv1_only', 'lrn_conv2_only'])
    assert pages.table(lrn, made).count(command) == 1
    assert pages.not_run(lrn, []) == list(lrn.arms)
    # Of a grid that another study decided on the chosen alone are to be run.
    assert pages.not_run(figure, []) == list(figure.chosen)
    assert set(figure.chosen) < set(figure.arms)
    page = summarize.claims_page([], [(lrn, ['lrn_conv1_only']), (figure, [])])
    assert (
        f'| lrn_conv1_only | `{pages.sweep_command(lrn, ["lrn_conv1_only"])}` |' in page
    )
    assert f'| all | `{pages.sweep_command(figure)}` |' in page
    # The command of the page is one that the sweep takes.
    words = shlex.split(command)[3:]
    listed = run_here(
        'experiments.sweep', *words, f'--workdir={tmp_path}', '--seeds=1', '--dry_run'
    )
    assert listed.status == 0 and len(listed.out.splitlines()) == 2, listed


def test_what_is_asked_of_imagenet_can_be_run_there():
    asked = [claim for claim in claims.CLAIMS if claim.arms]
    assert {3, 7, 8, 9, 10, 11, 12, 13, 15, 26, 32} == {c.number for c in asked}
    for claim in asked:
        base, *arms = claim.arms.split()
        assert base == 'base' and arms and claim.expected
        for arm in arms:
            assert ablations.overrides(arm, paper.get_config())
    others = [claim for claim in claims.CLAIMS if claim.of_row_20]
    assert {18, 27, 28, 29} == {claim.number for claim in others}
    for claim in others:
        _, _, module, *words = shlex.split(claim.of_row_20)
        known = run_here(module, '--help').out
        assert claim.expected and '--workdir=runs/paper' in words
        assert all(word.split('=')[0] + '=' in known for word in words)
    # Whatever a small net decided here has its question for the paper's.
    decided = {e.claim for s in studies.STUDIES.values() for e in s.effects} - {0}
    of_small_nets = {5, 6, 30, 33}  # of other nets than the paper's
    assert decided - of_small_nets == {c.number for c in (*asked, *others)}


def test_the_row_of_two_gpus_has_what_the_record_of_scaling_has():
    record = json.loads(
        (summarize.ROOT / 'experiments/records/scaling/record.json').read_text()
    )
    towers, half = (
        dict(enumerate(record['measured'][name]['seconds']))
        for name in ('released_2012, 2 towers, 2 cores', 'half, 1 device, 1 core')
    )
    ratio = paired.interval(paired.differences(towers, half, ratio=True)).exponential()
    ends = f'[{ratio.low:.2f}, {ratio.high:.2f}]'
    text = f'{ratio.mean:.2f} × {ends} of its time, n = {ratio.n}'
    medians = [statistics.median(seconds.values()) for seconds in (towers, half)]
    row = next(claim for claim in claims.CLAIMS if claim.number == 4)
    assert text in row.finding and f'--rounds={ratio.n}' in row.command
    shorter = paired.Interval(  # less time is what the claim says
        ratio.n, -ratio.mean, 0.0, -ratio.high, -ratio.low, 0.0, 0.0
    )
    assert row.verdict == paired.verdict(shorter, beyond=-1.0, matters=-1.0)
    assert row.finding.endswith(f'{medians[0] / medians[1]:.2f} by the medians')


def test_the_days_on_two_cores_are_those_of_the_measured_step():
    record = json.loads(
        (summarize.ROOT / 'experiments/records/step/record.json').read_text()
    )
    steps = 90 * (1_281_167 // 128)
    days = [
        steps * statistics.median(measured['seconds']) / 86_400
        for name, measured in record['batch 128, float32'].items()
        if name.startswith('ours')
    ]
    text = f'{min(days):.0f} to {max(days):.0f} days on two CPU cores'
    assert text in next(claim.finding for claim in claims.CLAIMS if claim.number == 25)


def test_the_readme_shows_the_ten_most_interesting_measured_rows():
    many = dict.fromkeys(readme_table.CLAIMS, ('+1.00 points', 'supported'))
    text = f'# a\n\n{readme_table.BEGIN}\nold\n{readme_table.END}\n\nb\n'
    made = readme_table.with_verdicts(text, many)
    rows = [line for line in made.splitlines() if line.startswith('| ')][2:]
    assert [row.split(' | ')[0][2:] for row in rows] == list(
        readme_table.CLAIMS.values()
    )[: readme_table.MOST]
    assert 'old' not in made and made.endswith('\n\nb\n')
    assert readme_table.with_verdicts(made, many) == made
    assert readme_table.with_verdicts('no marks', many) == 'no marks'


def test_runs_come_into_the_record_and_a_changed_page_is_noticed(tmp_path):
    source = tmp_path / 'runs' / 'records'
    source.mkdir(parents=True)
    made = lrn_runs()
    runs.save(source / 'lrn.jsonl', made[:6])
    summarize.take_in(tmp_path / 'runs', tmp_path)
    runs.save(source / 'lrn.jsonl', made[4:])
    summarize.take_in(tmp_path / 'runs', tmp_path)
    record = tmp_path / 'experiments' / 'records' / 'lrn'
    assert runs.load(record / 'runs.jsonl') == made
    written = summarize.make(tmp_path)
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert summarize.make(tmp_path) == written
    svg = (record / 'curves.svg').read_text()
    assert figures.digest_in(svg) == figures.digest(studies.named('lrn'), made)
    tree = ElementTree.fromstring(svg)
    words = ''.join(tree.itertext())
    assert 'no_lrn (n = 5)' in words and 'validation error (%)' in words
    # A run that measured something else changes table and picture.
    made[0].series['test/top1_error'][0][1] = 0.5
    runs.save(record / 'runs.jsonl', made)
    again = summarize.make(tmp_path)
    changed = {path.name for path in again if again[path] != written[path]}
    assert changed == {'table.md', 'curves.svg', 'claims.md'}


def test_the_committed_pages_are_what_the_records_make():
    done = run_here('experiments.summarize', '--check')
    assert done.status == 0, done.err


def test_what_sweep_and_summarize_refuse_is_one_line(tmp_path):
    for module, words, said in (
        ('sweep', ['--study=lnr'], 'there are lrn'),
        ('sweep', ['--study=lrn', '--base=demo'], 'take --base away'),
        ('sweep', ['tanh', '--study=lrn'], "no arm 'tanh'"),
        ('sweep', ['base', '--study=lrn,pools'], 'select of one --study'),
        ('sweep', ['base', '--base=demo', '--data_dir=x'], '--base.data.data_dir'),
        ('summarize', [f'--runs={tmp_path}'], 'no records/<study>.jsonl'),
    ):
        assert said in run_here(f'experiments.{module}', *words).error


def test_measures_are_of_the_last_step():
    run = make_run(
        'a', 0, [0.5, 0.4], train_view__top1_error=0.3, test__top1_error=0.45,
        test__top1_error_10view=0.42,
    )  # fmt: skip
    assert study.GAP.of(run) == pytest.approx(10.0)
    assert study.TEN_VIEW_GAIN.of(run) == pytest.approx(3.0)
    assert study.TEN_VIEWS.of(make_run('a', 0, [0.5])) is None
    assert json.loads(json.dumps(dataclasses.asdict(run)))['series']


def test_a_row_has_the_same_question_on_photographs():
    page = (summarize.ROOT / 'docs' / 'claims.md').read_text()
    row, _of_full_scale = re.findall(r'^\| 18 \|.*', page, re.M)
    record = summarize.ROOT / 'experiments' / 'records' / 'ten_views_photographs'
    (found,) = re.findall(
        r'^\| ten views \|.*\| (\+.*? points \[.*?\], n = \d+) \|',
        (record / 'table.md').read_text(),
        re.M,
    )
    assert f'; on photographs: {found}, supported' in row
