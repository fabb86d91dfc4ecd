"""Computes a query of the Nexmark benchmark with DuckDB, and compares.

    verify.py QUERY TABLES OUTPUT..     compare what the example wrote into each OUTPUT, Parquet files
    verify.py --totals TABLES           print rows and sums of all queries, as the benchmark knows them

TABLES has the folders persons, auctions and bids, as the example writes them at parallelism 1: the order of rows is that of
events. The first OUTPUT is of parallelism 1 as well. The SQL is that of https://github.com/nexmark/nexmark; where Millrace
puts out more, or something else, the README says what.
"""

import sys

import duckdb

# Windows by their end, for SQL has no windows of time.
TUMBLE = "time_bucket(interval 10 second, {}) + interval 10 second"

WINNING = """
    select a.id, a.seller, a.category, a.expires, max(b.price) as price
    from auction a join bid b on a.id = b.auction and b.date_time between a.date_time and a.expires
    group by all
"""

# Rows that must come out, each as often.
QUERIES = {
    "q0": "select auction, bidder, price, date_time, extra from bid",
    "q1": "select auction, bidder, 0.908 * price as price, date_time, extra from bid",
    "q2": "select auction, price from bid where auction % 123 = 0",
    "q3": """
        select p.name, p.city, p.state, a.id from auction a join person p on a.seller = p.id
        where a.category = 10 and p.state in ('OR', 'ID', 'CA')
    """,
    # One row for each auction; which one is in the middle of things depends on the order of those that close at once.
    "q4": f"""
        with final as (select category, sum(price) // count(*) as final, count(*) as auctions from ({WINNING}) group by all)
        select category, if(auctions = number, final, null) as final, number as auctions
        from final, unnest(range(1, auctions + 1)) as numbers(number)
    """,
    "q5": """
        with slides as (
            select auction, count(*) as num, time_bucket(interval 2 second, date_time) as slide from bid group by all
        ), counts as (
            select auction, sum(num)::bigint as num, slide + interval 2 second * n as window_end
            from slides, unnest(range(1, 6)) as slides_of(n) group by auction, window_end
        )
        select auction, num from counts qualify num = max(num) over (partition by window_end)
    """,
    "q6": f"""
        select seller, (sum(price) over recent) // (count(*) over recent) as avg_price from ({WINNING})
        window recent as (partition by seller order by expires, id rows between 9 preceding and current row)
    """,
    "q7": f"""
        select b.auction, b.price, b.bidder, b.date_time, b.extra from bid b
        join (select max(price) as price, {TUMBLE.format("date_time")} as date_time from bid group by 2) highest
        on b.price = highest.price
        where b.date_time between highest.date_time - interval 10 second and highest.date_time
    """,
    "q8": f"""
        select p.id, p.name, p.window_end - interval 10 second as stime
        from (select distinct id, name, {TUMBLE.format("date_time")} as window_end from person) p
        join (select distinct seller, {TUMBLE.format("date_time")} as window_end from auction) a
        on p.id = a.seller and p.window_end = a.window_end
    """,
    "q11": """
        with begun as (
            select *, coalesce(date_time >= lag(date_time) over bids + interval 10 second, true) as begins from bid
            window bids as (partition by bidder order by date_time)
        ), numbered as (
            select *, count(*) filter (begins) over (partition by bidder order by date_time) as session from begun
        )
        select bidder, count(*) as bid_count, min(date_time) as starttime, max(date_time) + interval 10 second as endtime
        from numbered group by bidder, session
    """,
    "q20": """
        select b.auction, b.bidder, b.price, b.channel, b.url, b.date_time as bid_date_time, b.extra as bid_extra,
            a.item_name, a.description, a.initial_bid, a.reserve, a.date_time as auction_date_time, a.expires, a.seller,
            a.category, a.extra as auction_extra
        from bid b join auction a on b.auction = a.id where a.category = 10
    """,
}

# How results are looked at, where it is not just as they are.
VIEWS = {
    "q4": "select id, if(auctions = max(auctions) over (partition by id), final, null) as final, auctions from result",
}

# What tells the last of a bidder's bids for an auction.
LAST = "select bidder, auction, max((date_time, price)) as last from {} group by all"

# Bids that are the last so far when they come, in order.
CHANGES = """
    select * from (
        select *, max((epoch_ms(date_time), price)) over (
            partition by bidder, auction order by number rows between unbounded preceding and 1 preceding
        ) as last from bid
    ) where last is null or (epoch_ms(date_time), price) > last
"""

# Each has no rows, or something is wrong.
CHECKS = {
    "q12": {
        "bidders whose bids are not all counted": """
            (select bidder, sum(bid_count) from result group by all)
            except all (select bidder, count(*) from bid group by all)
        """,
        "bidders that are missing": "select bidder from bid except select bidder from result",
        "windows that are not of ten seconds": """
            from result where endtime - starttime != interval 10 second or epoch_ms(starttime) % 10000 != 0
        """,
        "windows that are there twice": "select bidder, starttime from result group by all having count(*) > 1",
    },
    "q18": {
        "rows that are no bids": f"""
            (select {(columns := "auction, bidder, price, channel, url, date_time, extra")} from result)
            except all (select {columns} from bid)
        """,
        "bids that should be last": f"({LAST.format('bid')}) except ({LAST.format('result')})",
        "bids that should not": f"({LAST.format('result')}) except ({LAST.format('bid')})",
    },
}

# For the benchmark, which sums a column up.
SUMS = {
    "q0": "price", "q1": "price", "q2": "price", "q3": "id", "q4": "auctions", "q5": "num", "q6": "avg_price", "q7": "price",
    "q8": "id", "q11": "bid_count", "q18": "price", "q20": "price",
}


def connect(tables):
    database = duckdb.connect()
    database.sql("set timezone = 'UTC'")
    for name in ("person", "auction", "bid"):
        database.sql(f"""
            create table {name} as
            select *, row_number() over () as number from read_parquet('{tables}/{name}s/**/*.parquet')
        """)
    return database


def differences(database, query, is_first):
    """What is wrong, and rows that show it."""
    checks = dict(CHECKS.get(query, {}))
    if query in QUERIES:
        result = VIEWS.get(query, "from result")
        checks["rows that are missing"] = f"({QUERIES[query]}) except all ({result})"
        checks["rows that should not be there"] = f"({result}) except all ({QUERIES[query]})"
    if query == "q18" and is_first:
        checks["changes that are not put out"] = f"(select number from ({CHANGES})) limit greatest(0, (select count(*) from ({CHANGES})) - (select count(*) from result))"
    return {what: rows for what, check in checks.items() if (rows := database.sql(check).fetchmany(3))}


def compare(query, tables, outputs):
    database = connect(tables)
    for output in outputs:
        database.sql(f"create or replace table result as from read_parquet('{output}/**/*.parquet')")
        for what, rows in differences(database, query, output == outputs[0]).items():
            sys.exit(f"{query}: {output}: {what}, such as {rows}")
        (count,) = database.sql("select count(*) from result").fetchone()
        if count == 0:
            sys.exit(f"{query}: {output}: no rows, so that nothing is shown")
        print(f"{query}: {output.rsplit('-', 1)[-1]}: {count} rows: ok")


def totals(tables):
    database = connect(tables)
    for query, column in SUMS.items():
        rows = CHANGES if query == "q18" else QUERIES[query]
        count, total = database.sql(f"select count(*), sum({column}) from ({rows})").fetchone()
        print(f'("{query}", {count:_}, {str(total).replace(".", "")}),')


if __name__ == "__main__":
    if sys.argv[1] == "--totals":
        totals(sys.argv[2])
    else:
        compare(sys.argv[1], sys.argv[2], sys.argv[3:])
