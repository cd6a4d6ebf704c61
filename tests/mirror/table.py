#!/usr/bin/env python3
"""Makes the tables of docs/clients.md of reports of `outboard check --client --format=json`.

    table.py NAME=REPORT [NAME=REPORT ...] > TABLES

A column a client; a table a group of misbehaviours. What the client did is said in a few words; a
verdict that is a failure is in bold.
"""

import json
import re
import sys

GROUPS = {
    "version": "In the reply to VERSION",
    "header": "In the header of a reply",
    "info": "In what it says about the device, its regions and its interrupts",
    "data": "In the body of other replies",
    "descriptor": "With descriptors",
    "dma": "With commands of its own",
    "pace": "In time, and with the end of the connection",
    "twin": "On a twin socket, where the client offers one",
}


def words(result):
    """What the client did, short."""
    verdict, _, did = result["detail"].partition(": ")
    did = re.sub(r' \(".*', "", did)
    did = re.sub(r"0x([0-9a-f]{9,})", "a far address", did)
    if verdict == "survived":
        short = re.sub(r", and ended with status (\d+)", r" (\1)", did)
        return short.replace("gave up (1)", "gave up").replace("(0)", "").strip()
    if verdict == "not reached":
        return "-"
    did = did.replace("ended by ", "").replace("went on as if nothing had been wrong", "noticed nothing")
    did = did.replace("neither went on nor ended", "").strip()
    return f"**{verdict}**" + (f": {did}" if did else "")


def main(arguments):
    names, reports = zip(*(argument.split("=", 1) for argument in arguments))
    columns = [{x["id"]: x for x in json.load(open(report))["checks"]} for report in reports]
    for group, title in GROUPS.items():
        longest = max(columns, key=len)
        rows = [x for x in longest.values() if x["id"].split(".")[0] == group]
        print(f"\n### {title}\n\n| Misbehaviour | What the mirror does | {' | '.join(names)} |")
        print("|---|---|" + "---|" * len(names))
        for row in rows:
            did = [words(column[row["id"]]) if row["id"] in column else "-" for column in columns]
            print(f"| `{row['id']}` | {row['title']} | {' | '.join(did)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
