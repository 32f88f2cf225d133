import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import { isError } from '../../../src/errors.ts';
import { readConnection } from '../../../src/storage/connect/info.ts';

const md5 = (text: string) => createHash('md5').update(text).digest('hex');
const VOLUME = '0d8e2a64-1b5e-4c37-9a54-2b7c61f0a001';
/** As Nova hands it over, Cinder's answer in `data`. */
const nested = (driver_volume_type: string, data: Record<string, unknown>) => ({
  driver_volume_type,
  data: { qos_specs: null, access_mode: 'rw', encrypted: false, cacheable: false, ...data },
  status: 'reserved',
  instance: 'b9f1f3a6-0000-4000-8000-000000000001',
  attached_at: '',
  detached_at: '',
  volume_id: VOLUME,
  serial: VOLUME,
});
const NFS = {
  export: '127.0.0.1:/export',
  name: `volume-${VOLUME}`,
  options: null,
  format: 'raw',
  mount_point_base: '/srv/mnt',
};
const ISCSI = {
  target_discovered: false,
  target_portal: '192.0.2.10:3260',
  target_iqn: `iqn.2010-10.org.openstack:volume-${VOLUME}`,
  target_lun: 0,
  volume_id: VOLUME,
  auth_method: 'CHAP',
  auth_username: 'ziQm',
  auth_password: 'geheim',
  discard: false,
};

describe('connection_info', () => {
  test('of NFS names the file at the place that Cinder gives it', () => {
    const { connection, secrets } = readConnection(nested('nfs', NFS));

    assert.deepEqual(connection, {
      type: 'nfs',
      volumeId: VOLUME,
      name: `/srv/mnt/${md5('127.0.0.1:/export')}/volume-${VOLUME}`,
      kind: 'file',
      readOnly: false,
      facts: {
        share: '127.0.0.1:/export',
        mountPoint: `/srv/mnt/${md5('127.0.0.1:/export')}`,
        file: `volume-${VOLUME}`,
        format: 'raw',
        options: '',
      },
    });
    assert.ok(secrets.isEmpty);
  });

  test('is the same nested, as Nova has it, and flat, as the attachments API has it', () => {
    const { data, ...around } = nested('nfs', NFS);
    assert.deepEqual(readConnection({ ...around, ...data }).connection, readConnection(nested('nfs', NFS)).connection);
  });

  test('of a qcow2 file is a device, and mount options come without their switch', () => {
    const { connection } = readConnection(nested('nfs', { ...NFS, format: 'qcow2', options: '-o vers=4.1,hard' }));
    assert.equal(connection.kind, 'device');
    assert.equal(connection.facts['options'], 'vers=4.1,hard');
  });

  test('of iSCSI keeps the password apart, and nothing prints it', () => {
    const request = readConnection(nested('iscsi', ISCSI));

    assert.deepEqual(request.connection.facts, {
      paths: [`192.0.2.10:3260 ${ISCSI.target_iqn} 0`],
      chapUser: 'ziQm',
    });
    assert.equal(request.secrets.get('chapPassword'), 'geheim');
    assert.doesNotMatch(`${JSON.stringify(request)} ${inspect(request, { depth: 9 })} ${request.secrets}`, /geheim/);
  });

  test('of iSCSI with several paths has them all', () => {
    const { connection } = readConnection(
      nested('iscsi', {
        ...ISCSI,
        target_portals: ['192.0.2.10:3260', '[2001:db8::1]:3260'],
        target_iqns: ['iqn.2026-01.test:a', 'iqn.2026-01.test:b'],
        target_luns: [1, 2],
      }),
    );
    assert.deepEqual(connection.facts['paths'], [
      '192.0.2.10:3260 iqn.2026-01.test:a 1',
      '[2001:db8::1]:3260 iqn.2026-01.test:b 2',
    ]);
  });

  test('of RBD names pool and image, and keeps the keyring apart', () => {
    const { connection, secrets } = readConnection(
      nested('rbd', {
        name: `volumes/volume-${VOLUME}`,
        hosts: ['192.0.2.1', '192.0.2.2'],
        ports: ['6789', '3300'],
        cluster_name: 'ceph',
        auth_enabled: true,
        auth_username: 'cinder',
        secret_type: 'ceph',
        secret_uuid: 'x',
        keyring: '[client.cinder]\nkey = geheim\n',
      }),
    );
    assert.deepEqual(connection.facts, {
      image: `volumes/volume-${VOLUME}`,
      cluster: 'ceph',
      monitors: ['192.0.2.1:6789', '192.0.2.2:3300'],
      user: 'cinder',
    });
    assert.equal(connection.name, `rbd:ceph/volumes/volume-${VOLUME}`);
    assert.match(secrets.get('keyring') ?? '', /geheim/);
  });

  test('of NVMe-oF is the same in its old form and in its new one', () => {
    const old = readConnection(
      nested('nvmeof', {
        target_portal: '192.0.2.3',
        target_port: '4420',
        nqn: 'nqn.2014-08.org:v1',
        transport_type: 'tcp',
        ns_id: '10',
      }),
    );
    const now = readConnection(
      nested('nvmeof', {
        target_nqn: 'nqn.2014-08.org:v1',
        vol_uuid: null,
        portals: [['192.0.2.3', 4420, 'tcp']],
        ns_id: 10,
      }),
    );
    assert.deepEqual(old.connection, now.connection);
    assert.deepEqual(now.connection.facts, {
      nqn: 'nqn.2014-08.org:v1',
      portals: ['tcp 192.0.2.3 4420'],
      namespace: 10,
    });
  });

  test('of a volume that is to be read only, or is encrypted, says so', () => {
    const request = nested('local', { device_path: '/dev/vg/volume-1', access_mode: 'ro', encrypted: true });
    const encryption = {
      provider: 'luks',
      control_location: 'front-end',
      cipher: 'aes-xts-plain64',
      key_size: 256,
      encryption_key_id: '5a1c',
    };

    const { connection } = readConnection(request, { encryption });

    assert.equal(connection.readOnly, true);
    assert.deepEqual(connection.encryption, {
      provider: 'luks',
      keyId: '5a1c',
      cipher: 'aes-xts-plain64',
      keySizeBits: 256,
    });
  });

  test('of an encrypted volume about which nothing is said is LUKS', () => {
    const { connection } = readConnection(nested('local', { device_path: '/dev/vg/v', encrypted: true }), {
      encryption: {},
    });
    assert.deepEqual(connection.encryption, { provider: 'luks' });
  });
});

describe('connection_info that is not accepted', () => {
  const refused: readonly (readonly [string, unknown, string])[] = [
    ['nothing', null, ''],
    ['a type that nobody here knows', nested('fibre_channel', {}), 'driver_volume_type'],
    ['no volume id', { driver_volume_type: 'nfs', data: NFS }, 'volume_id'],
    ['a file name that leads out of the share', nested('nfs', { ...NFS, name: '../../etc/shadow' }), 'name'],
    ['a file name that is the share itself', nested('nfs', { ...NFS, name: '..' }), 'name'],
    ['a share that begins like an option', nested('nfs', { ...NFS, export: '-o:/x' }), 'export'],
    ['a share without a path', nested('nfs', { ...NFS, export: 'filer' }), 'export'],
    ['mount options with a blank in them', nested('nfs', { ...NFS, options: '-o vers=4 -x' }), 'options'],
    ['a mount that goes on in the background', nested('nfs', { ...NFS, options: '-o vers=4.1,bg' }), 'options'],
    ['a change of another mount', nested('nfs', { ...NFS, options: 'remount' }), 'options'],
    ['a format that is none of ours', nested('nfs', { ...NFS, format: 'vmdk' }), 'format'],
    ['a base that is no absolute path', nested('nfs', { ...NFS, mount_point_base: '/srv/../etc' }), 'mount_point_base'],
    ['a relative device', nested('local', { device_path: 'dev/sda' }), 'device_path'],
    ['an image without a pool', nested('rbd', { name: 'volume-1' }), 'name'],
    ['an image that begins like an option', nested('rbd', { name: '--pool/x' }), 'name'],
    ['a portal without a port', nested('iscsi', { ...ISCSI, target_portal: '192.0.2.10' }), 'target_portal'],
    ['an iSCSI name with a blank', nested('iscsi', { ...ISCSI, target_iqn: 'iqn.2020 x' }), 'target_iqn'],
    ['CHAP without a password', nested('iscsi', { ...ISCSI, auth_password: '' }), 'auth_password'],
    ['another way to prove who one is', nested('iscsi', { ...ISCSI, auth_method: 'SRP' }), 'auth_method'],
    [
      'paths of different numbers',
      nested('iscsi', { ...ISCSI, target_portals: ['a:1'], target_iqns: [], target_luns: [1] }),
      'target_luns',
    ],
    ['a volume that several may write to', { ...nested('nfs', NFS), multiattach: true }, 'multiattach'],
    ['no way to tell the namespace', nested('nvmeof', { target_nqn: 'nqn.x:y', portals: [['a', 1, 'tcp']] }), 'ns_id'],
    ['a RAID of targets', nested('nvmeof', { vol_uuid: VOLUME, volume_replicas: [{}] }), 'volume_replicas'],
  ];
  for (const [what, info, field] of refused)
    test(`is ${what}: the field is named`, () => {
      assert.throws(
        () => readConnection(info),
        e => isError(e, 'SV_CONNECTION_INFO') && (field === '' || e.field === field),
      );
    });

  test('is an encryption that is none of ours', () => {
    const info = nested('local', { device_path: '/dev/vg/v', encrypted: true });
    assert.throws(
      () => readConnection(info, { encryption: { provider: 'nova.volume.encryptors.cryptsetup.CryptsetupEncryptor' } }),
      e => isError(e, 'SV_CONNECTION_INFO') && e.field === 'encryption.provider',
    );
  });

  test('its password is in no error', () => {
    assert.throws(
      () => readConnection(nested('iscsi', { ...ISCSI, target_lun: 'geheim', auth_password: 'geheim' })),
      e => !/geheim/.test(inspect(e, { depth: 9 })),
    );
  });
});
