"""One command divides a model, goes on where it was interrupted, and what it wrote is loaded and judged."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_vit import build

from evitif.model.errors import ArtifactError
from evitif.partition import load_device, load_fusion, read_partition
from evitif_cli import main
from evitif_lab.evaluation import partition_report
from evitif_lab.evaluation.partition import datagram_bytes
from evitif_lab.partition.pruning import Limit, prune
from evitif_lab.partition.sizes import shape_of
from evitif_lab.partition.views import device_views
from evitif_lab.training import partition as training
from evitif_lab.training import partition_baselines, partition_body, training_answers
from evitif_lab.training.partition_body import begin_fusion, read_stages
from evitif_lab.training.partition_cnn import Cnn, prune_cnn
from evitif_lab.training.partition_retraining import System, fuse, retrain


def test_a_partition_answers_as_its_description_says(partition, images):
    description = read_partition(partition)
    content = description.content
    assert content['figures']['test_top1'] >= 0.8 and content['figures']['test_images'] == 30
    assert content['figures']['reduction'] >= 3.0
    assert sorted(index for entry in description.devices for index in entry.classes) == [0, 1, 2]
    assert content['made_by']['command'] == 'command'
    fusion = load_fusion(partition)
    devices = [load_device(partition, index) for index in range(3)]
    right = 0
    for class_id, name in enumerate(('blue', 'green', 'red')):
        from PIL import Image
        for path in sorted((images / 'val' / name).iterdir()):
            image = devices[0].preprocessor(np.asarray(Image.open(path)))
            features = np.stack([device.features(image) for device in devices])
            assert features.dtype == np.float32 and features.shape == (3, fusion.partition.features)
            answer = fusion.answer(features, np.ones(3, bool))
            assert answer.dtype == np.float32 and answer.sum() == pytest.approx(1, abs=1e-5)
            right += answer.argmax() == class_id
    assert right / 30 == pytest.approx(content['figures']['test_top1'], abs=0.04)       # int8 there, not here


def test_a_device_says_what_it_thinks_of_its_own_classes(partition):
    device = load_device(partition, 'device1')
    probabilities = device.local_probabilities(device.features(torch.zeros(1, 3, 32, 32)))
    assert probabilities.shape == (len(device.entry.classes) + 1,) and probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert device.labels[-1] == 'other' and len(device.labels) == len(probabilities)
    assert device.entry.index == 1 and device.entry.name == 'device1'


def test_the_handshake_can_tell_devices_and_partitions_apart(partition, train, tmp_path):
    fusion = load_fusion(partition)
    devices = [load_device(partition, index) for index in range(3)]
    assert [device.entry.fingerprint for device in devices] == [entry.fingerprint for entry in fusion.partition.devices]
    assert len({device.entry.fingerprint for device in devices}) == 3
    assert {device.partition.fingerprint for device in devices} == {fusion.partition.fingerprint}
    other = tmp_path / 'other'
    train(other, steps=1, fusion_steps=1, seed=5, subsets='random')
    assert load_fusion(other).partition.fingerprint != fusion.partition.fingerprint
    shutil.copy(other / 'device-1.safetensors', tmp_path / 'kept')
    mixed = tmp_path / 'mixed'
    shutil.copytree(partition, mixed, ignore=shutil.ignore_patterns('steps'))
    shutil.copy(other / 'device-1.safetensors', mixed)
    with pytest.raises(ArtifactError) as refused:
        load_device(mixed, 1)
    assert fusion.partition.fingerprint[:16] in str(refused.value) and load_fusion(other).partition.fingerprint[:16] in str(refused.value)
    load_device(mixed, 0)


def test_a_device_needs_its_own_file_alone(partition, tmp_path):
    for name in ('partition.json', 'device-2.safetensors'):
        shutil.copy(partition / name, tmp_path)
    assert load_device(tmp_path, 2).entry.index == 2
    with pytest.raises(ArtifactError, match='device-0.safetensors: cannot be read'):
        load_device(tmp_path, 0)
    with pytest.raises(ArtifactError, match=r'fusion.safetensors: cannot be read'):
        load_fusion(tmp_path)
    with pytest.raises(ArtifactError, match="no device 'mast'"):
        load_device(tmp_path, 'mast')


@pytest.mark.parametrize('change, expected', [
    (lambda content: content['devices'][1].update(classes=content['devices'][0]['classes']), 'on no device'),
    (lambda content: content['devices'][1].update(name='device0'), "one identity, 'device0'"),
    (lambda content: content['devices'][1].update(digest='0' * 64), 'its fingerprint is'),
    (lambda content: content.pop('labels'), "the key 'labels' is missing"),
    (lambda content: content.update(format=99), 'expected a description of format'),
])
def test_a_description_that_contradicts_itself_is_refused(partition, tmp_path, change, expected):
    shutil.copytree(partition, tmp_path / 'p', ignore=shutil.ignore_patterns('steps'))
    path = tmp_path / 'p' / 'partition.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError) as refused:
        read_partition(tmp_path / 'p')
    assert expected in str(refused.value) and str(path) in str(refused.value)


def test_features_of_another_shape_are_refused(partition):
    fusion = load_fusion(partition)
    with pytest.raises(ValueError, match='expected features'):
        fusion.answer(np.zeros((2, fusion.partition.features)), np.ones(3, bool))


def test_an_interrupted_training_goes_on_and_ends_the_same(train, partition, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(training, 'fuse', lambda *arguments, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / 'p')
    with monkeypatch.context() as patched:      # what is done is not done again
        patched.setattr(training, 'prune', lambda *arguments, **more: pytest.fail('pruned again'))
        patched.setattr(training, 'retrain', lambda *arguments, **more: pytest.fail('retrained again'))
        train(tmp_path / 'p')
    assert load_fusion(tmp_path / 'p').partition.fingerprint == load_fusion(partition).partition.fingerprint


def test_steps_run_alone_and_ask_for_the_one_before(train, tmp_path):
    with pytest.raises(ValueError, match="step 'retrain' needs the result of 'subsets'"):
        train(tmp_path / 'p', step='retrain')
    assert 'confusions_within' in train(tmp_path / 'p', step='subsets')
    train(tmp_path / 'p', step='body')
    figures = train(tmp_path / 'p', step='prune')
    assert len(figures['devices']) == 3 and not (tmp_path / 'p' / 'partition.json').exists()
    with pytest.raises(ValueError, match="step 'fuse' needs the result of 'retrain'"):
        train(tmp_path / 'p', step='fuse')


def test_sub_models_of_one_body_have_their_first_blocks_alike_and_the_body_is_trained_once(train, tmp_path, monkeypatch):
    more = {'body': ['1.5:3', '4'], 'common_blocks': 1, 'answers': str(tmp_path / 'shared'), 'steps': 4, 'fusion_steps': 2}
    description = train(tmp_path / 'p', **more)
    first, second = description['figures']['body']
    assert description['figures']['reduction'] >= 3.0 > second['reduction'] > first['reduction'] >= 1.5
    assert first['training']['steps'] == 3 and 0 <= second['top1'] <= 1
    devices = [load_device(tmp_path / 'p', index).module for index in range(3)]
    weights = [module.state_dict() for module in devices]
    for name, tensor in weights[0].items():
        if name.startswith(('patch_embed', 'cls_token', 'pos_embed', 'blocks.0')):
            assert all(torch.equal(tensor, other[name]) for other in weights[1:]), name
    assert not torch.equal(weights[0]['blocks.1.mlp.fc1.weight'], weights[1]['blocks.1.mlp.fc1.weight'])
    monkeypatch.setattr(partition_body, 'retrain', lambda *arguments, **more: pytest.fail('trained the body again'))
    assert train(tmp_path / 'q', **more, subsets='random')['figures']['body'] == [first, second]
    monkeypatch.undo()
    assert main(['evaluate', 'partition', '--partitions', str(tmp_path / 'p'), '--seeds', '1', '--json', str(tmp_path / 'r.json')]) == 0
    assert '## The model that is divided' in (tmp_path / 'r.md').read_text()
    entry, = json.loads((tmp_path / 'r.json').read_text())['entries']
    assert entry['copies'] == {'0': 3, '0.3': 6, '0.6': 14}     # as a device sends: but 0.1 % of the frames, and three at least


def test_the_fusion_begins_with_the_answer_of_the_body_that_the_sub_models_are_parts_of():
    body = build().requires_grad_(False)
    shape = shape_of(body)
    for block in body.blocks:
        block.mlp.fc2.weight[:, -8:] = 0                # so that what is pruned did nothing
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    modules = [prune(body, images, own, replace(shape, hidden=shape.hidden - 8))[0] for own in ((0,), (1, 2))]
    narrow, _ = prune(body, images, (2,), replace(shape, width=24))
    system = System([*modules, narrow], ((0,), (1, 2), (2,)), 3, shape.width)
    begin_fusion(system.fusion, body, [shape_of(module).width for module in system.modules_])
    with torch.no_grad():
        answer = system.fusion(system.features(images), torch.ones(6, 3, dtype=torch.bool))
    assert torch.allclose(answer, body(images), atol=1e-3)


def test_each_class_is_on_two_devices_where_asked_for(train, tmp_path):
    train(tmp_path / 'p', redundancy=2, steps=2, fusion_steps=2)
    assert all(len(entry.classes) == 2 for entry in read_partition(tmp_path / 'p').devices)


def test_an_inventory_names_the_devices_and_prunes_harder(train, tmp_path):
    inventory = tmp_path / 'inventory.yaml'
    inventory.write_text('devices:\n' + ''.join(f'  - {{name: {name}, memory: {memory}, compute: 1.0e9}}\n'
                                                for name, memory in (('rover', 5e4), ('mast', 1e5), ('gate', 1e5))))
    train(tmp_path / 'p', inventory=str(inventory), steps=2, fusion_steps=2)
    devices = read_partition(tmp_path / 'p').devices
    assert {entry.name for entry in devices} == {'rover', 'mast', 'gate'}
    assert all(4 * entry.parameters <= {'rover': 5e4}.get(entry.name, 1e5) for entry in devices)
    features = load_fusion(tmp_path / 'p').partition.features       # of unequal width, so some are padded
    assert all(load_device(tmp_path / 'p', entry.index).features(torch.zeros(1, 3, 32, 32)).shape == (features,) for entry in devices)
    inventory.write_text('devices: [{name: mote, memory: 100, compute: 1}]')
    with pytest.raises(ValueError, match='fits on no device'):
        train(tmp_path / 'q', inventory=str(inventory))


def test_the_command_trains_and_judges(model, images, tmp_path, capsys):
    output, report = tmp_path / 'p', tmp_path / 'report.json'
    training = ['train', 'partition', '--model', str(model), '--data', str(images), '--output', str(output), '--devices', '2',
                '--reduction', '3', '--steps', '20', '--batch-size', '16', '--fusion-steps', '30', '--calibration-images', '8',
                '--subsets', 'random', '--views', '1']
    assert main(training) == 0
    arguments = ['evaluate', 'partition', '--partitions', str(output), '--loss', '0.5', '--copies', '1', '--seeds', '2',
                 '--json', str(report)]
    assert main(arguments) == 0
    assert '| small | 2 |' in capsys.readouterr().out.replace(', random subsets', '')
    entry = json.loads(report.read_text())['entries'][0]
    assert entry['images'] == 30 and entry['parameters_largest'] * 3 <= entry['parameters_original']
    assert set(entry['device_gone']) == {'device0', 'device1'}
    assert entry['packet_loss']['0.5']['frames_of_nothing'] == pytest.approx(0.25, abs=0.15)
    assert entry['packet_loss']['0.5']['points_lost'] > 0
    assert entry['copies'] == {'0': 1, '0.5': 1} and set(entry['bytes_per_frame'].values()) == {2 * datagram_bytes(load_fusion(output))}
    assert entry['latency']['milliseconds']['original'] > 0
    assert report.with_suffix('.md').is_file() and report.with_suffix('.png').is_file()
    assert main(arguments) == 0
    assert 'measured already' in capsys.readouterr().out
    assert main([*training, '--seed', '1']) == main(arguments) == 0         # another partition in the same folder takes its place
    replaced, = json.loads(report.read_text())['entries']
    assert replaced['identity']['partition'] == load_fusion(output).partition.fingerprint != entry['identity']['partition']


def test_what_a_partition_is_compared_with_is_trained_once_and_no_larger_than_a_sub_model(partition, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(partition_baselines, 'WIDTHS', (4, 4, 8, 8))
    arguments = ['evaluate', 'partition', '--partitions', str(partition), '--baselines', '--seeds', '1', '--json']
    assert main([*arguments, str(tmp_path / 'first.json')]) == 0
    entry = json.loads((tmp_path / 'first.json').read_text())['entries'][0]
    baselines = entry['baselines']
    assert baselines['distilled']['parameters'] <= entry['parameters_largest']
    assert baselines['averaged']['models'] == 3 and len(baselines['averaged']['runs']) == 3
    assert baselines['distilled']['top1'] == baselines['averaged']['runs'][0] > 0.5
    cnn = baselines['cnn']
    assert cnn['parameters_largest'] <= entry['parameters_largest'] and cnn['multiply_adds_largest'] <= entry['multiply_adds_largest']
    assert cnn['top1'] > 0.4
    began = {path: path.stat().st_mtime_ns for path in (partition / 'steps').glob('baseline-*.pt')}
    assert len(began) == 3
    assert main([*arguments, str(tmp_path / 'second.json')]) == 0
    assert json.loads((tmp_path / 'second.json').read_text())['entries'][0]['baselines'] == baselines
    assert began == {path: path.stat().st_mtime_ns for path in (partition / 'steps').glob('baseline-*.pt')}
    assert '## Beside the partition' in capsys.readouterr().out


def test_the_report_says_at_which_size_the_points_that_are_allowed_hold():
    def entry(reduction: float, below: float, redundancy: int = 1) -> dict:
        return {'model': 'm', 'devices': 5, 'redundancy': redundancy, 'class_subsets': [[i, i + 5] for i in range(5)],
                'reduction': reduction, 'points_below_original': below}
    sizes = partition_report.sizes_within_points
    assert sizes([entry(4.0, 0.5), entry(6.0, 0.51), entry(10.1, 3.2), entry(10.2, 0.8), entry(8.0, 0.1, redundancy=2)])[-1] == \
        '| m | 5 | 0.5 | 4.0× (0.50 below) | 0.80 at 10.2× |'
    assert sizes([entry(4.0, 0.6)])[-1] == '| m | 5 | 0.5 | – | – |'
    assert sizes([entry(4.0, 0.6) | {'devices': 3}]) == []           # of which nothing was asked


def test_the_fusion_learns_from_images_that_no_sub_model_saw(train, tmp_path, monkeypatch):
    monkeypatch.setattr(training_answers, 'CHUNK', 40)
    learnt, fused = [], []
    monkeypatch.setattr(training, 'retrain', lambda system, answers, *more: learnt.append(answers) or retrain(system, answers, *more))
    monkeypatch.setattr(partition_body, 'retrain', lambda system, answers, *more: learnt.append(answers) or retrain(system, answers, *more))
    monkeypatch.setattr(training, 'fuse', lambda system, answers, *more, **judged: fused.append(answers)
                        or fuse(system, answers, *more, **judged))
    figures = train(tmp_path / 'p', body=['2'], views=1, held_out=5, steps=2, fusion_steps=2)['figures']['fusion']
    assert [len(answers.class_ids) for answers in learnt] == [80, 80] and [len(answers.class_ids) for answers in fused] == [10]
    seen, held = ({image.numpy().tobytes() for image in answers.images} for answers in (learnt[0], fused[0]))
    assert len(held) == 20 and not seen & held
    assert figures['images'] == 20 and figures['jury_images'] == 4 and figures['kept_step'] in (0, 2)
    train(tmp_path / 'again', begin=str(tmp_path / 'p'), held_out=5, steps=1, fusion_steps=1)
    for more in ({'held_out': 6}, {'held_out': 5, 'images': 60}):
        with pytest.raises(ValueError, match='it has learnt from what is to be held out'):
            train(tmp_path / 'again', begin=str(tmp_path / 'p'), **more)


def test_a_negative_number_of_views_is_refused(train, tmp_path):
    with pytest.raises(ValueError, match='views are -1: expected 0 or more'):
        train(tmp_path / 'p', views=-1)


def test_a_pruned_cnn_answers_as_if_the_rest_were_masked():
    torch.manual_seed(0)
    cnn = Cnn((6, 6, 8, 8), classes=4).eval()
    images = torch.randn(8, 3, 16, 16)
    same = prune_cnn(cnn, images, (2, 0), Limit(), 16).eval()
    assert torch.allclose(same(images)[:, :2], cnn(images)[:, [2, 0]], atol=1e-4)
    small = prune_cnn(cnn, images, (2, 0), Limit(multiply_adds=same.multiply_adds(16) // 2), 16)
    assert small.multiply_adds(16) <= same.multiply_adds(16) // 2 and max(small.widths) < 8


@pytest.mark.parametrize('arguments, expected', [
    (['--devices', '4'], '4 devices for 3 classes'),
    (['--redundancy', '4'], 'redundancy is 4'),
    (['--reduction', '0.5'], 'reduction is 0.5'),
    (['--subsets', 'whim'], "subsets 'whim' is neither"),
    (['--subsets', '{tmp}/overlap.json'], '1 (green) overlap'),
    (['--reduction', '100000'], 'a sub-model cannot be pruned to'),
    (['--body', '8:400'], "stage 1 of the body is '8:400'"),
    (['--body', 'long', '3'], "stage 1 of the body is 'long'"),
    (['--body', '3', '8:400'], "stage 1 of the body is '3'"),
    (['--body', '8:3', '3'], 'less than the largest sub-model'),
    (['--body', '3', '--common-blocks', '9'], 'common_blocks is 9: expected 0 to 2'),
    (['--held-out', '90'], 'held_out is 90 of 90 training images'),
    (['--held-out', '-1'], 'held_out is -1: expected 0 or more'),
    (['--device-views', '16'], 'device_views is 16: expected 0 to 15 pixels'),
])
def test_a_mistake_ends_in_one_sentence(model, images, tmp_path, arguments, expected, capsys):
    (tmp_path / 'overlap.json').write_text('[[0, 1], [1, 2], [1]]')
    filled = [part.format(tmp=tmp_path) for part in arguments]
    assert main(['train', 'partition', '--model', str(model), '--data', str(images), '--output', str(tmp_path / 'p'), *filled]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('evitif: ') and expected in error


def test_a_partition_goes_on_from_an_earlier_one(train, partition, tmp_path):
    description = train(tmp_path / 'p', begin=str(partition), steps=3, fusion_steps=2)
    earlier = read_partition(partition).content
    assert [entry['classes'] for entry in description['devices']] == [entry['classes'] for entry in earlier['devices']]
    assert [entry['shape'] for entry in description['devices']] == [entry['shape'] for entry in earlier['devices']]
    assert description['made_by']['after'] == ['command'] and description['fingerprint'] != earlier['fingerprint']
    again = train(tmp_path / 'again', begin=str(partition), steps=1, learning_rate=1e-12, matrix_rate=1e-12, fusion_steps=1)
    assert again['figures']['test_top1'] == pytest.approx(earlier['figures']['test_top1'], abs=0.04)      # nothing was lost on the way
    third = train(tmp_path / 'third', begin=str(tmp_path / 'p'), steps=1, fusion_steps=1)
    assert third['made_by']['after'] == ['command', 'command']
    with pytest.raises(ValueError, match='to begin with has 3 devices: expected 2'):
        train(tmp_path / 'q', begin=str(partition), devices=2)
    with pytest.raises(ValueError, match='expected one of them'):
        train(tmp_path / 'q', begin=str(partition), body=['3'])
    with pytest.raises(ArtifactError, match='cannot be read'):
        train(tmp_path / 'q', begin=str(tmp_path / 'none'))


@pytest.mark.parametrize('common_blocks', [0, 1])
def test_devices_learn_from_what_each_will_see_unless_they_have_blocks_in_common(train, tmp_path, monkeypatch, common_blocks):
    seen, losses = [], System.losses
    monkeypatch.setattr(System, 'losses', lambda system, *arguments: seen.append(system.views) or losses(system, *arguments))
    train(tmp_path / 'p', body=['2'], steps=1, fusion_steps=1, device_views=1, common_blocks=common_blocks)
    assert seen == [() if common_blocks else device_views(3, 1)]


def test_each_device_looks_at_the_image_in_its_own_way_and_the_artifact_says_how(train, partition, tmp_path):
    description = train(tmp_path / 'p', begin=str(partition), steps=1, fusion_steps=20, device_views=1)
    assert [entry['view'] for entry in description['devices']] == [
        {'down': 0, 'right': 0, 'mirrored': False}, {'down': 0, 'right': 1, 'mirrored': True}, {'down': 1, 'right': 0, 'mirrored': False}]
    image = torch.rand(1, 3, 32, 32)
    device = load_device(tmp_path / 'p', 1)
    moved = torch.cat((image[..., 1:2], image[..., :-1]), 3).flip(3)        # reflected at the border: column 1 comes in
    plain = device.module.forward_head(device.module.forward_features(moved), pre_logits=True)[0].numpy()
    assert np.allclose(device.features(image)[:len(plain)], plain, atol=1e-5)
    path = tmp_path / 'p' / 'partition.json'
    content = json.loads(path.read_text())
    content['devices'][1]['view']['down'] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match='its fingerprint is'):
        read_partition(tmp_path / 'p')
    content['devices'][1]['view']['down'] = 'far'
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match='expected whole pixels down and right'):
        read_partition(tmp_path / 'p')


@pytest.mark.parametrize('reduction', ['0', '0.5', '-2', 'nan', 'inf'])
def test_a_stage_that_does_not_shrink_the_body_is_refused(reduction):
    with pytest.raises(ValueError, match='stage 1 of the body is .*expected REDUCTION:STEPS'):
        read_stages((f'{reduction}:2', '2'))
