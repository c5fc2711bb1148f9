"""Pack the flowers of garden.py into four tar shards, data/garden-0.tar to data/garden-3.tar: picture, class and caption."""

import io
import json
import random
import tarfile
from pathlib import Path

rows = [json.loads(line) for line in Path("garden/metadata.jsonl").read_text(encoding="utf-8").splitlines()]
random.Random(0).shuffle(rows)  # a shard has all kinds
Path("data").mkdir(exist_ok=True)
for k in range(4):
    with tarfile.open(f"data/garden-{k}.tar", "w") as shard:
        for i, row in enumerate(rows[k::4]):
            path = Path("garden", row["file_name"])
            sample = {"png": path.read_bytes(), "cls": path.parent.name.encode(), "txt": row["text"].encode()}
            for ending, content in sample.items():
                member = tarfile.TarInfo(f"{k}{i:05}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
