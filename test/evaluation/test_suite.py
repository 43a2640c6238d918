"""The suite makes every table from what ships, once."""

import json
import re
from pathlib import Path

import pytest

from evitif_cli import main
from evitif_lab.evaluation import suite

QUICK = ['evaluate', 'suite', '--quick']


def test_the_suite_measures_once_and_writes_the_page(shipped, tmp_path, capsys, monkeypatch):
    arguments = [*QUICK, '--artifacts', str(shipped.artifacts), '--output', str(tmp_path)]
    assert main(arguments) == 0
    page = (tmp_path / 'recovery.md').read_text()
    assert '`evitif evaluate suite --quick' in page
    assert re.search(r'\| small \| 1 \| independent losses \| int8, [\d,]+ bytes \| 60 \| PALDN \|', page)
    assert re.search(r'\| small \| 1 \| mean burst 8 \| int8, [\d,]+ bytes \| 60 \| omission \|', page)
    assert re.search(r'\| small \| 1 \| mean burst 8 \| klt2[a-z0-9 ]*, [\d,]+ bytes \| 60 \| PALDN \|', page)
    assert '### Cut 1, all methods' in page and '| linear |' in page
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / 'recovery').glob('*.json')}
    assert set(results) == {f'small-cut1-{name}' for name in (
        'iid', 'burst8', 'iid-int8', 'burst8-int8', 'methods')}
    assert results['small-cut1-iid']['quantisation'] == 'klt2'
    assert results['small-cut1-iid-int8']['command'].startswith('evitif evaluate recovery --model')
    assert all((tmp_path / link).is_file() for link in _links(page))
    measure = suite.Measurement.measure
    monkeypatch.setattr(suite.Measurement, 'measure', lambda *_: pytest.fail('measured again'))
    assert main(arguments) == 0
    assert 'measured already' in capsys.readouterr().out
    # What was judged on more images stands as well; on fewer, it does not.
    again = []
    monkeypatch.setattr(suite.Measurement, 'measure', lambda *given: again.append(1) or measure(*given))
    path, judged = tmp_path / 'recovery' / 'small-cut1-iid.json', results['small-cut1-iid']['identity']['images']
    for images, times in ((judged + 1, 0), (judged - 1, 1)):
        result = results['small-cut1-iid']
        path.write_text(json.dumps({**result, 'identity': {**result['identity'], 'images': images}}))
        assert main(arguments) == 0 and len(again) == times


def test_the_full_suite_has_other_links_as_well(shipped, tmp_path):
    (model,) = suite.shipped_models(shipped.artifacts, {}, Path('none'))
    jobs = {job.label: job.configuration for job in suite.jobs_of(model, tmp_path, quick=False, images=None)}
    assert set(jobs) == {'iid', 'burst8', 'iid-int8', 'burst8-int8', 'methods', 'burst2', 'burst32', 'drift', 'burst2-int8',
                         'burst32-int8', 'drift-int8', 'int4', 'int4-twice'}
    assert jobs['iid'].quantisation == 'auto' and jobs['iid'].images == suite.MAIN_IMAGES and jobs['iid'].seeds == 5
    assert jobs['int4-twice'].patch_copies == 2 and jobs['drift'].pattern == 'drift'
    entry = {'burst32': suite.measure(suite.Job('x', 'burst32', suite.replace(jobs['burst32'], images=20, seeds=1,
                                                                             json=str(tmp_path / 'x.json'))))}
    assert 'mean burst 32' in suite.page({'small': [('x', 'burst32', entry['burst32'])]}, 'command', [], tmp_path)


def _links(page: str) -> list[str]:
    return re.findall(r'!\[[^\]]*\]\(([^)]+)\)', page)


def test_a_model_without_its_images_is_left_out_with_a_sentence(shipped, tmp_path, capsys):
    assert main([*QUICK, '--artifacts', str(shipped.artifacts), '--output', str(tmp_path), '--data', 'small=not/here']) == 1
    assert "'not/here'" in capsys.readouterr().err
    assert not (tmp_path / 'recovery.md').exists()


@pytest.mark.parametrize(('arguments', 'expected'), [(['--only', 'large'], "'large' has no recovery"),
                                                     (['--artifacts', '/nowhere'], '/nowhere')])
def test_a_mistake_of_the_suite_ends_in_one_sentence(shipped, tmp_path, capsys, arguments, expected):
    assert main([*QUICK, '--artifacts', str(shipped.artifacts), '--output', str(tmp_path), *arguments]) == 1
    assert expected in capsys.readouterr().err


def test_a_folder_with_recoveries_alone_belongs_to_the_timm_model_of_its_name(tmp_path):
    name = 'vit_tiny_patch16_224.augreg_in21k_ft_in1k'
    for cut in (4, 6, 9):
        for kind, suffix in (('paldn', 'json'), ('paldn', 'safetensors'), ('linear', 'json'), ('poem', 'json'),
                             *([('klt', 'json')] if cut == 6 else [])):
            path = tmp_path / name / f'{kind}-cut{cut}.{suffix}'
            path.parent.mkdir(exist_ok=True)
            path.touch()
    checkpoint = tmp_path / 'weights.safetensors'
    (model,) = suite.shipped_models(tmp_path, {}, checkpoint)
    assert model.pretrained and model.kinds == {4: ['paldn'], 6: ['paldn'], 9: ['paldn']} and model.middle_cut == 6
    assert model.data == 'data/imagenet-photos'
    checkpoint.touch()
    (model,) = suite.shipped_models(tmp_path, {name: 'elsewhere'}, checkpoint)
    assert model.checkpoint == str(checkpoint) and not model.pretrained and model.data == 'elsewhere'
    jobs = list(suite.jobs_of(model, Path('out'), quick=False, images=None))
    assert [job.configuration.cut for job in jobs if job.label == 'iid-int8'] == [4, 6, 9]
    assert [job.configuration.cut for job in jobs if job.label == 'iid'] == [6]
    assert len({job.configuration.json for job in jobs}) == len(jobs)
