from collections import Counter

from gateway.mqtt.documents import MAX_DOCUMENTS_BYTES, MAX_POSTS, Documents, Post


def published(documents: Documents) -> list[Post]:
    posts = []
    while (post := documents.next()) is not None:
        posts.append(post)
    return posts


def test_the_newest_document_of_a_topic_wins() -> None:
    documents = Documents(Counter())

    documents.retain("b/x/info", b"old")
    documents.retain("b/x/info", b"new")

    assert published(documents) == [Post("b/x/info", b"new", retain=True)]


def test_a_document_that_did_not_change_is_not_published_again() -> None:
    documents = Documents(Counter())
    documents.retain("b/x/availability", b"online")
    published(documents)

    assert not documents.retain("b/x/availability", b"online")

    assert published(documents) == []


def test_every_connection_begins_with_all_documents_in_the_order_of_their_birth() -> None:
    documents = Documents(Counter())
    documents.retain("b/status", b"online")
    documents.retain("b/x/info", b"1")
    published(documents)
    documents.retain("b/x/info", b"2")

    assert documents.start_over() == 2

    assert published(documents) == [
        Post("b/status", b"online", retain=True),
        Post("b/x/info", b"2", retain=True),
    ]


def test_a_removed_document_is_published_empty_until_the_broker_knows() -> None:
    documents = Documents(Counter())
    documents.retain("b/x/info", b"1")
    published(documents)

    documents.retain("b/x/info", None)
    removal = Post("b/x/info", b"", retain=True)
    assert published(documents) == [removal]
    assert documents.start_over() == 1  # no answer came: once more
    assert published(documents) == [removal]
    documents.acknowledged(removal)

    assert documents.start_over() == 0


def test_a_document_that_came_back_survives_the_answer_to_its_removal() -> None:
    documents = Documents(Counter())
    documents.retain("b/x/info", None)
    (removal,) = published(documents)
    documents.retain("b/x/info", b"back")

    documents.acknowledged(removal)

    assert published(documents) == [Post("b/x/info", b"back", retain=True)]


def test_removing_documents_gives_their_memory_back() -> None:
    counts: Counter[str] = Counter()
    documents = Documents(counts)

    for number in range(3):
        assert documents.retain(f"b/{number}/info", b"x" * (MAX_DOCUMENTS_BYTES - 1000))
        documents.retain(f"b/{number}/info", None)
        (post,) = published(documents)
        documents.acknowledged(post)

    assert counts["documents_dropped"] == 0


def test_documents_are_bounded_and_the_old_ones_stay() -> None:
    counts: Counter[str] = Counter()
    documents = Documents(counts)
    documents.retain("b/old/info", b"x" * (MAX_DOCUMENTS_BYTES - 300))

    assert not documents.retain("b/new/info", b"x" * 1000)
    assert documents.retain("b/removed/state", None), "it would be a ghost"
    assert documents.retain("b/old/info", b"still")

    assert counts["documents_dropped"] == 1
    topics = [post.topic for post in published(documents)]
    assert topics == ["b/old/info", "b/removed/state"]


def test_remarks_go_out_once_and_in_order() -> None:
    documents = Documents(Counter())
    documents.post("b/x/log", b"1")
    documents.post("b/x/log", b"2")

    assert [post.payload for post in published(documents)] == [b"1", b"2"]
    assert documents.start_over() == 0
    assert published(documents) == []


def test_the_oldest_remark_makes_room_and_is_counted() -> None:
    counts: Counter[str] = Counter()
    documents = Documents(counts)

    for number in range(MAX_POSTS + 3):
        documents.post("b/x/log", str(number).encode())

    assert counts["posts_dropped"] == 3
    posts = published(documents)
    assert len(posts) == MAX_POSTS
    assert posts[0].payload == b"3"


def test_remarks_and_documents_take_turns() -> None:
    documents = Documents(Counter())
    for number in range(3):
        documents.retain(f"b/{number}/info", b"d")
        documents.post("b/x/log", b"r")

    assert [post.payload for post in published(documents)] == [b"d", b"r"] * 3


def test_remarks_that_were_not_acknowledged_return_to_the_front() -> None:
    documents = Documents(Counter())
    for number in range(4):
        documents.post("b/x/log", str(number).encode())
    first, second = documents.next(), documents.next()
    assert first is not None
    assert second is not None

    documents.returned(second)
    documents.returned(first)

    assert [post.payload for post in published(documents)] == [b"0", b"1", b"2", b"3"]


def test_remarks_that_return_to_a_full_queue_are_dropped_as_the_oldest() -> None:
    counts: Counter[str] = Counter()
    documents = Documents(counts)
    documents.post("b/x/log", b"oldest")
    oldest = documents.next()
    assert oldest is not None
    for _ in range(MAX_POSTS):
        documents.post("b/x/log", b"newer")

    documents.returned(oldest)

    assert counts["posts_dropped"] == 1
    assert all(post.payload == b"newer" for post in published(documents))
