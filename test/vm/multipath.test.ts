import { connectorContract } from './contract.ts';
import { iscsiService } from './services/iscsi.ts';

connectorContract('iSCSI over two paths', iscsiService({ portals: 2, chap: false }), { multipath: true });
