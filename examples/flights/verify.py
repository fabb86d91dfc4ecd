"""Computes the results of the flights example without Millrace, and compares.

    verify.py INPUT OUTPUT              compare what the example wrote into OUTPUT with INPUT
    verify.py --write FOLDER INPUT      write what is expected if nothing is late

Which rows are late depends on how often watermarks are sent, so the comparison takes them from the output: every row
is either in the result or in the late output, none in both, and a row may only be late if an earlier row of the file
lets the watermark pass the end of its hour (or day). Everything else must be equal to the last row.

Plain Python over the columns; needs pyarrow to read Parquet. `verify` runs this in an environment of its own.
"""

import argparse
import csv
import glob
import os
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pyarrow.parquet

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
HOUR, DAY = 60, 24 * 60  # in minutes, like all times here


def read_flights(path):
    """(date, delay, origin, destination) of each flight, in the file's order."""
    table = pyarrow.parquet.read_table(path, columns=["date", "delay", "origin", "destination"])
    micros = table["date"].cast("int64").to_pylist()
    assert all(time % 60_000_000 == 0 for time in micros), "departures are in whole minutes"
    dates = [time // 60_000_000 for time in micros]
    return list(zip(dates, *(table[name].to_pylist() for name in ("delay", "origin", "destination"))))


def hourly(flights):
    """{(origin, hour): [flights, delayed by 15 minutes or more, minutes of delay]}"""
    totals = defaultdict(lambda: [0, 0, 0])
    for date, delay, origin, _ in flights:
        total = totals[origin, (date + delay) // HOUR]
        total[0] += 1
        total[1] += delay >= 15
        total[2] += delay
    return totals


def worst_routes(flights, top, min_flights):
    """[(day, rank, origin, destination, flights, minutes of delay)]"""
    totals = defaultdict(lambda: [0, 0])
    for date, delay, origin, destination in flights:
        total = totals[(date + delay) // DAY, origin, destination]
        total[0] += 1
        total[1] += delay
    days = defaultdict(list)
    for (day, origin, destination), (count, minutes) in totals.items():
        if count >= min_flights:
            days[day].append((-Fraction(minutes, count), -count, origin, destination, minutes))
    return [
        (day, rank, origin, destination, -count, minutes)
        for day, routes in days.items()
        for rank, (_, count, origin, destination, minutes) in enumerate(sorted(routes)[:top], start=1)
    ]


def may_be_late(flights, bound, length):
    """Flights that an earlier row of the file can make late for their window of this length."""
    late, latest = Counter(), None
    for flight in flights:
        departure = flight[0] + flight[1]
        end = (departure // length + 1) * length
        if latest is not None and end <= latest - bound:
            late[flight] += 1
        if latest is None or departure > latest:
            latest = departure
    return late


def show(minute):
    return (EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def hourly_rows(totals):
    return sorted([origin, show(hour * HOUR), *map(str, total)] for (origin, hour), total in totals.items())


def route_rows(routes):
    return sorted([show(day * DAY)[:10], *map(str, rest)] for day, *rest in routes)


HEADERS = {
    "hourly": ["origin", "start", "flights", "delayed", "delay_minutes"],
    "worst_routes": ["day", "rank", "origin", "destination", "flights", "delay_minutes"],
}


def read_output(folder, name):
    """Rows of all parts of an output, as texts, sorted; none if there are no parts."""
    rows = []
    for path in glob.glob(os.path.join(folder, name, "*.csv")):
        with open(path, newline="") as file:
            reader = csv.reader(file)
            header = next(reader)
            assert name not in HEADERS or header == HEADERS[name], f"{path} has the header {header}"
            rows.extend(reader)
    return sorted(rows)


def read_late(folder, name):
    rows = Counter()
    for date, delay, origin, destination in read_output(folder, name):
        time = datetime.fromisoformat(date.replace("Z", "+00:00"))
        time = time.replace(tzinfo=time.tzinfo or timezone.utc)
        rows[(time - EPOCH) // timedelta(minutes=1), int(delay), origin, destination] += 1
    return rows


def check_late(name, flights, late, bound, length):
    allowed = may_be_late(flights, bound, length)
    wrong = late - allowed
    if wrong:
        sys.exit(f"{name}: {wrong.total()} rows are not late, e.g. {next(iter(wrong))}")
    print(f"{name}: {late.total()} rows, of at most {allowed.total()}: ok")
    return list((Counter(flights) - late).elements())


def check_equal(name, expected, got):
    if expected == got:
        print(f"{name}: {len(got)} rows: ok")
        return
    missing = [row for row in expected if row not in set(map(tuple, got))] if len(expected) < 1000 else []
    difference = next((pair for pair in zip(expected, got) if pair[0] != pair[1]), missing[:1])
    sys.exit(f"{name}: {len(expected)} rows expected, {len(got)} found; the first that differ: {difference}")


def write(folder, name, rows):
    with open(os.path.join(folder, f"{name}.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEADERS[name], *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--write", metavar="FOLDER")
    parser.add_argument("--bound-hours", type=int, default=24, help="the pipeline's parameter `bound`")
    parser.add_argument("--top", type=int, default=10, help="the pipeline's parameter `top`")
    parser.add_argument("--min-flights", type=int, default=5, help="the pipeline's parameter `min_flights`")
    options = parser.parse_args()

    flights = read_flights(options.input)
    if options.write:
        write(options.write, "hourly", hourly_rows(hourly(flights)))
        write(options.write, "worst_routes", route_rows(worst_routes(flights, options.top, options.min_flights)))
        return

    bound = options.bound_hours * 60
    late_hours, late_days = (read_late(options.output, name) for name in ("late_hours", "late_days"))
    in_time = check_late("late_hours", flights, late_hours, bound, HOUR)
    check_equal("hourly", hourly_rows(hourly(in_time)), read_output(options.output, "hourly"))
    in_time = check_late("late_days", flights, late_days, bound, DAY)
    routes = worst_routes(in_time, options.top, options.min_flights)
    check_equal("worst_routes", route_rows(routes), read_output(options.output, "worst_routes"))


if __name__ == "__main__":
    main()
