"""EBS direct: snapshots written and read in blocks of 512 KiB, with every check that the service makes.

What the service's model does not say (order of checks, what a repeated CompleteSnapshot answers) is marked "assumed".
"""

import hashlib
import json
from base64 import b64decode, b64encode
from typing import Any

from v2c.emulators.aws.blocks import BLOCK
from v2c.emulators.aws.cloud import Call, Cloud, Operation
from v2c.emulators.aws.store import Record, new_id
from v2c.emulators.aws.wire import Answer, Refusal
from v2c.model import GIB

MOST_GIB = 65536
PENDING = 100  # snapshots at a time: quota L-94D7AB7D
DEFAULT_TIMEOUT = 60  # minutes without a block, after which a snapshot is given up


def _invalid(reason: str, message: str) -> Refusal:
    return Refusal("ValidationException", message, 400, Reason=reason)


def _absent(id: str) -> Refusal:
    return Refusal("ResourceNotFoundException", f"The snapshot '{id}' does not exist.", 404, Reason="SNAPSHOT_NOT_FOUND")


def expire(cloud: Cloud, snapshot: Record) -> None:
    """A snapshot that nobody wrote to for its time-out is in error."""
    if snapshot["State"] != "pending" or "_timeout" not in snapshot or snapshot.get("_completing"):
        return
    if cloud.clock() > snapshot["_touched"] + snapshot["_timeout"] * 60:
        snapshot |= {"State": "error", "StateMessage": "the snapshot timed out"}


def _written(cloud: Cloud, call: Call) -> Record:
    """The pending snapshot that a call writes to."""
    id = call.params["SnapshotId"]
    snapshot = cloud.store.table(call.region, "snapshots").get(id)
    if snapshot is None or cloud.clock() < snapshot.get("_visible", 0):
        raise _absent(id)
    expire(cloud, snapshot)
    if snapshot["State"] != "pending" or snapshot.get("_completing") or "_timeout" not in snapshot:
        raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {id} is not pending")
    return snapshot


def _read(cloud: Cloud, call: Call, name: str = "SnapshotId") -> Record:
    """The completed snapshot that a call reads."""
    id = call.params[name]
    snapshot = cloud.store.table(call.region, "snapshots").get(id)
    if snapshot is None:
        raise _absent(id)
    if snapshot["State"] != "completed":
        raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {id} is not completed")
    return snapshot


def start_snapshot(cloud: Cloud, call: Call) -> Any:
    """A pending snapshot; the same token gives the same one, other arguments under it a conflict."""
    params = call.params
    size, token, parent = params["VolumeSize"], params.get("ClientToken", ""), params.get("ParentSnapshotId", "")
    if not 1 <= size <= MOST_GIB:
        raise _invalid("INVALID_VOLUME_SIZE", f"The volume size {size} is not valid")
    if parent and ("Encrypted" in params or "KmsKeyArn" in params):
        raise _invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId excludes Encrypted and KmsKeyArn")
    if params.get("KmsKeyArn") and not params.get("Encrypted"):
        raise _invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn needs Encrypted")
    wanted = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
    store = cloud.store
    with store.lock:
        tokens = store.table(call.region, "tokens")
        if token and token in tokens:
            if tokens[token]["wanted"] != wanted:
                raise Refusal("ConflictException", "The client token was used with other parameters.", 409)
            return tokens[token]["answer"]
        snapshots = store.table(call.region, "snapshots")
        if parent and (parent not in snapshots or snapshots[parent]["State"] != "completed"):
            raise _absent(parent)
        if parent and snapshots[parent]["VolumeSize"] > size:
            raise _invalid("INVALID_VOLUME_SIZE", "The volume is smaller than its parent's")
        if sum(s["State"] == "pending" and "_timeout" in s for s in snapshots.values()) >= cloud.quotas.get(
            "L-94D7AB7D", PENDING
        ):
            raise Refusal("ConcurrentLimitExceededException", "You have reached the limit of pending snapshots.", 400)
        id, now = new_id("snap"), cloud.clock()
        snapshot = {
            "SnapshotId": id,
            "OwnerId": cloud.account,
            "State": "pending",
            "StartTime": cloud.now(),
            "Progress": "0%",
            "VolumeId": "vol-ffffffff",  # what EC2 shows for a snapshot that no volume had
            "VolumeSize": size,
            "Description": params.get("Description", ""),
            "Encrypted": bool(params.get("Encrypted")) or bool(parent and snapshots[parent]["Encrypted"]),
            "StorageTier": "standard",
            "Tags": params.get("Tags", []),
            "_timeout": params.get("Timeout", DEFAULT_TIMEOUT),
            "_touched": now,
            "_visible": now + cloud.pace.visible_s,
        }
        if params.get("KmsKeyArn"):
            snapshot["KmsKeyId"] = params["KmsKeyArn"]
        blocks = cloud.blocks(snapshot)
        if parent:
            blocks.inherit(cloud.blocks(snapshots[parent]))
        answer = {
            "SnapshotId": id,
            "OwnerId": cloud.account,
            "Status": "pending",
            "StartTime": snapshot["StartTime"],
            "VolumeSize": size,
            "BlockSize": BLOCK,
            "Tags": snapshot["Tags"],
            "Description": snapshot["Description"],
            **({"ParentSnapshotId": parent} if parent else {}),
        }
        snapshots[id] = snapshot
        if token:
            tokens[token] = {"wanted": wanted, "answer": answer}
        store.save()
    return answer


def put_snapshot_block(cloud: Cloud, call: Call) -> Any:
    """One block, checked against its digest before it is written."""
    params = call.params
    index, data = params["BlockIndex"], params["BlockData"]
    if params["DataLength"] != BLOCK or len(data) != BLOCK:
        raise _invalid("INVALID_BLOCK", f"The data length must be {BLOCK}, and {len(data)} bytes came")
    digest = hashlib.sha256(data).digest()
    if b64encode(digest).decode() != params["Checksum"]:
        raise _invalid("INVALID_BLOCK", "The checksum does not match the block's data")
    with cloud.store.lock:
        snapshot = _written(cloud, call)
        snapshot["_touched"] = cloud.clock()
    if not index < snapshot["VolumeSize"] * GIB // BLOCK:
        raise _invalid("INVALID_BLOCK", f"The block {index} lies beyond the volume's end")
    if call.fault != "lost-block":  # a server that lies: it says it wrote, and did not
        if call.fault == "wrong-block":
            data = bytes([data[0] ^ 1]) + data[1:]
        cloud.blocks(snapshot).put(index, data, digest)
    else:
        cloud.blocks(snapshot).digests[index] = digest
    return Answer(201, b"{}", (("x-amz-Checksum", params["Checksum"]), ("x-amz-Checksum-Algorithm", "SHA256")))


def complete_snapshot(cloud: Cloud, call: Call) -> Any:
    """Seals a snapshot whose count, and checksum where one is given, agree with what was written; another is in error."""
    params = call.params
    with cloud.store.lock:
        id = params["SnapshotId"]
        asked = [params["ChangedBlocksCount"], params.get("Checksum", "")]
        known = cloud.store.table(call.region, "snapshots").get(id)
        if known is not None and known.get("_completing") == asked and known["State"] != "error":  # assumed: harmless twice
            return {"Status": known["State"]}
        snapshot = _written(cloud, call)
        if params.get("Checksum") and not (params.get("ChecksumAlgorithm") and params.get("ChecksumAggregationMethod")):
            raise _invalid("INVALID_PARAMETER_VALUE", "A checksum needs its algorithm and its aggregation method")
        blocks = cloud.blocks(snapshot)
        whole = hashlib.sha256(b"".join(blocks.digests[index] for index in blocks.indexes()))
        right = params["ChangedBlocksCount"] == len(blocks.digests)
        if "Checksum" in params:
            right = right and b64decode(params["Checksum"]) == whole.digest()
        snapshot["_completing"] = asked
        if right:
            cloud.store.later(snapshot, cloud.pace.completing_s, State="completed", Progress="100%")
        else:
            message = "the number of blocks or their checksum differs from what was written"
            cloud.store.later(snapshot, cloud.pace.completing_s, State="error", StateMessage=message)
        cloud.store.save()
        return {"Status": "pending"}


def _token(snapshot: str, index: int, digest: bytes) -> str:
    return b64encode(hashlib.sha256(f"{snapshot}/{index}".encode() + digest).digest()).decode()


def _page(cloud: Cloud, call: Call, indexes: Any) -> tuple[list[int], dict[str, str]]:
    """The blocks of one page, and the token of the next."""
    most = min(call.params.get("MaxResults", 10000), cloud.pace.page)
    start = call.params.get("StartingBlockIndex", 0)
    if "NextToken" in call.params:
        try:
            start = int(b64decode(call.params["NextToken"]))
        except ValueError:
            raise _invalid("INVALID_PAGE_TOKEN", "The page token is not valid") from None
    found = [index for index in indexes if index >= start]
    more = {"NextToken": b64encode(str(found[most]).encode()).decode()} if len(found) > most else {}
    return found[:most], more


def list_snapshot_blocks(cloud: Cloud, call: Call) -> Any:
    """The written blocks, the parent's among them."""
    with cloud.store.lock:
        snapshot = _read(cloud, call)
        held = cloud.blocks(snapshot).held
    found, more = _page(cloud, call, sorted(held))
    blocks = [{"BlockIndex": index, "BlockToken": _token(snapshot["SnapshotId"], index, held[index])} for index in found]
    return {"Blocks": blocks, "VolumeSize": snapshot["VolumeSize"], "BlockSize": BLOCK, "ExpiryTime": cloud.now(), **more}


def list_changed_blocks(cloud: Cloud, call: Call) -> Any:
    """What differs between two snapshots of one line, or what the second holds."""
    with cloud.store.lock:
        second = _read(cloud, call, "SecondSnapshotId")
        held = cloud.blocks(second).held
        first = _read(cloud, call, "FirstSnapshotId") if "FirstSnapshotId" in call.params else None
        before = cloud.blocks(first).held if first else {}
    found, more = _page(cloud, call, sorted(i for i in held.keys() | before.keys() if held.get(i) != before.get(i)))
    blocks = []
    for index in found:
        entry: dict[str, object] = {"BlockIndex": index}
        if first and index in before:
            entry["FirstBlockToken"] = _token(first["SnapshotId"], index, before[index])
        if index in held:
            entry["SecondBlockToken"] = _token(second["SnapshotId"], index, held[index])
        blocks.append(entry)
    return {"ChangedBlocks": blocks, "VolumeSize": second["VolumeSize"], "BlockSize": BLOCK, "ExpiryTime": cloud.now(), **more}


def get_snapshot_block(cloud: Cloud, call: Call) -> Any:
    """One block with its checksum."""
    with cloud.store.lock:
        snapshot = _read(cloud, call)
        held = cloud.blocks(snapshot).held
    index = call.params["BlockIndex"]
    if index not in held:
        raise _invalid("INVALID_BLOCK", f"The block {index} was not written")
    if call.params["BlockToken"] != _token(snapshot["SnapshotId"], index, held[index]):
        raise _invalid("INVALID_BLOCK_TOKEN", "The block token is not valid")
    data = cloud.blocks(snapshot).get(index)
    digest = hashlib.sha256(data).digest()
    if call.fault == "wrong-block":  # a server that lies: another block, under a checksum that fits it
        data = bytes([data[0] ^ 1]) + data[1:]
        digest = hashlib.sha256(data).digest()
    if call.fault == "wrong-checksum":
        digest = hashlib.sha256(data + b"!").digest()
    headers = (
        ("x-amz-Data-Length", str(BLOCK)),
        ("x-amz-Checksum", b64encode(digest).decode()),
        ("x-amz-Checksum-Algorithm", "SHA256"),
        ("Content-Type", "application/octet-stream"),
    )
    return Answer(200, data, headers)


OPERATIONS: dict[str, Operation] = {
    "StartSnapshot": start_snapshot,
    "PutSnapshotBlock": put_snapshot_block,
    "CompleteSnapshot": complete_snapshot,
    "ListSnapshotBlocks": list_snapshot_blocks,
    "ListChangedBlocks": list_changed_blocks,
    "GetSnapshotBlock": get_snapshot_block,
}
