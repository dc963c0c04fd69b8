"""Any source to square records, records to batches; the home of tfds, grain and tf.

sources      what a source is: a folder of images (`folders`; `listing` and
             `entries` find out what is in it), or a set of TFDS (`tfds_sets`;
             `foreign`, what its files may say)
images       one image file to the pixels that are stored
photographs files and folders of images, read for a trained network
shards       the files of records, and the processes that write them
prepared     a prepared set on disk; `manifest`, what it says of itself
metadata     the same in TFDS's form; `plain_files`, the mean as plain files
prepare      making one, and opening it; `verify`, reading all of it
pipeline     reading it: batches, with `augment`
report       what a run says of its data; `duplicates`, the same image in two splits
splits       what `train[:90%]+test` reads; `hashing`, the order it counts in
disk         whole arrays, a lock, room enough
"""
