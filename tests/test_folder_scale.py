"""The measurement of large folders counts what it says it counts; nothing is timed."""

from experiments import folder_scale


def test_a_task_does_not_grow_with_the_folder_and_did_before():
    tasks = {
        (way, files): folder_scale.list_names(way, files, 6)['task_bytes']
        for way in folder_scale.WAYS
        for files in (12_000, 24_000)
    }
    assert tasks['by hash', 24_000] < 1.05 * tasks['by hash', 12_000]
    assert tasks['as strings', 24_000] > 1.9 * tasks['as strings', 12_000]


def test_a_start_depends_on_the_classes_alone():
    record = folder_scale.measure([], [(30, 3), (90, 3), (90, 9)], repetitions=1)
    few, many, classes = record['starts']
    assert few['stat'] == many['stat'] == classes['stat'] - 6
    assert {start['scandir'] for start in record['starts']} == {0}
    assert '| 90 in 9 |' in folder_scale.table(record)
