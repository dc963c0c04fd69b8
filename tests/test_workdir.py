"""What a workdir may hold when a run begins."""

import json
import shutil

import pytest

from alexnet_jax.run import checkpoint, checkpoint_folder, config_file, trained
from alexnet_jax.run import workdir as workdir_lib
from tests.conftest import make_small


@pytest.fixture
def finished(whole_run, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(whole_run['workdir'], workdir)
    return workdir


@pytest.fixture
def config(small_values):
    return make_small(small_values | {'mesh.data': 1, 'mesh.tower': 2})


def test_a_finished_run_without_checkpoints_is_not_trained_again(finished, config):
    workdir_lib.check_contents(finished, config)
    shutil.rmtree(finished / 'checkpoints')
    with pytest.raises(ValueError, match='checkpoints were removed'):
        workdir_lib.check_contents(finished, config)


def test_a_run_that_left_no_checkpoint_may_begin_with_another_config(finished, config):
    other = config.copy_and_resolve_references()
    other.optimizer.learning_rate = 0.5
    with pytest.raises(ValueError, match=r'learning_rate=0\.001'):
        workdir_lib.check_contents(finished, other)
    for name in ('checkpoints', 'best'):
        shutil.rmtree(finished / name)
    workdir_lib.check_contents(finished, other)


def test_checkpoints_of_an_unknown_config_are_refused(finished, config, monkeypatch):
    monkeypatch.setattr(
        checkpoint_folder, 'newest_meta', lambda workdir: {'metrics': {}}
    )
    workdir_lib.check_contents(finished, config)  # config.json says it
    (finished / 'config.json').unlink()
    with pytest.raises(ValueError, match=r'neither they nor config\.json'):
        workdir_lib.check_contents(finished, config)


def test_the_best_of_an_earlier_run_is_set_aside(finished):
    (step,) = checkpoint_folder.saved_steps(finished, 'best')
    before = sorted(p.name for p in (finished / 'best' / str(step)).iterdir())
    with checkpoint.Checkpoints(finished) as checkpoints:
        assert checkpoints.set_best_aside() == [step]
        assert checkpoints.best_error is None
        assert checkpoints.set_best_aside() == []
    (aside,) = (finished / 'best').iterdir()
    assert aside.name == f'{step}.earlier'
    assert sorted(p.name for p in aside.iterdir()) == before


def test_a_damaged_config_is_read_from_the_checkpoints(finished, monkeypatch):
    (finished / 'config.json').write_text('{"format": 2, "mod')
    network = trained.load(finished).network
    assert network.layers[0].name == 'conv1'
    monkeypatch.setattr(checkpoint_folder, 'newest_meta', lambda workdir: None)
    with pytest.raises(ValueError, match=r'config\.json is damaged'):
        trained.load(finished)


def test_what_a_finished_run_has_goes_when_it_goes_on(finished):
    names = {'result.json', 'conv1_kernels.png'}
    workdir_lib.remove_results(finished, unless=True)
    assert names <= {path.name for path in finished.iterdir()}
    workdir_lib.remove_results(finished, unless=False)
    assert not names & {path.name for path in finished.iterdir()}


@pytest.mark.parametrize('name', ['checkpoints', 'best'])
def test_a_file_in_the_place_of_checkpoints_is_found_before_training(tmp_path, name):
    (tmp_path / name).write_text('')
    with pytest.raises(ValueError, match=f'{name} is not a directory'):
        workdir_lib.check_place(tmp_path)


def test_the_config_is_kept_with_every_checkpoint(whole_run, config):
    as_json = json.loads(json.dumps(config_file.to_json(config)))
    for kind in ('checkpoints', 'best'):
        for step in checkpoint_folder.saved_steps(whole_run['workdir'], kind):
            folder = whole_run['workdir'] / kind / str(step) / 'meta' / 'metadata'
            assert json.loads(folder.read_text())['meta']['config'] == as_json
