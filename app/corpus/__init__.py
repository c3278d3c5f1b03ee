"""Whole corpora: a file of texts becomes a file of summaries, in shards that are kept one by one.

files, shards      compressed files; what a shard is, and what becomes of it
lines, tables      JSON Lines, Parquet
formats            which of them a file is
work_folder        what is finished already, so that a run can be taken up again
summarizing        shards through an engine that is kept full
cluster            the same on Ray Data
run                all of it
"""
