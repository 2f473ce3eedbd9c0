// What a suite in C++ has: fixtures, parameters, skips, disabled tests, and failures.

#include <gtest/gtest.h>

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ostream>

static int Create(unsigned type, unsigned key_size, unsigned entries) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof(attr));
  attr.map_type = type;
  attr.key_size = key_size;
  attr.value_size = 8;
  attr.max_entries = entries;
  return static_cast<int>(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
}

static int Update(int map, unsigned key, unsigned long long value) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof(attr));
  attr.map_fd = static_cast<unsigned>(map);
  attr.key = reinterpret_cast<unsigned long long>(&key);
  attr.value = reinterpret_cast<unsigned long long>(&value);
  return static_cast<int>(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attr, sizeof(attr)));
}

struct Kind {
  const char* name;
  unsigned type;
};

static void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class MapTest : public testing::TestWithParam<Kind> {};

TEST_P(MapTest, CanBeMade) {
  int map = Create(GetParam().type, 4, 4);
  ASSERT_GE(map, 0) << strerror(errno);
  EXPECT_EQ(0, Update(map, 1, 42));
  close(map);
}

INSTANTIATE_TEST_SUITE_P(Kinds, MapTest,
                         testing::Values(Kind{"hash", BPF_MAP_TYPE_HASH},
                                         Kind{"array", BPF_MAP_TYPE_ARRAY},
                                         Kind{"lru", BPF_MAP_TYPE_LRU_HASH}),
                         [](const auto& info) { return info.param.name; });

TEST(Map, IsFull) {
  int map = Create(BPF_MAP_TYPE_HASH, 4, 1);
  ASSERT_GE(map, 0);
  EXPECT_EQ(0, Update(map, 1, 1));
  EXPECT_EQ(-1, Update(map, 2, 2));
  EXPECT_EQ(E2BIG, errno);
}

TEST(Map, BloomFilter) {
  int map = Create(BPF_MAP_TYPE_BLOOM_FILTER, 0, 4);
  if (map < 0 && errno == EINVAL) GTEST_SKIP() << "needs 5.16: bloom filters";
  ASSERT_GE(map, 0);
}

TEST(Map, DISABLED_NotYet) { FAIL(); }

TEST(Map, Fails) { EXPECT_EQ(0, Create(BPF_MAP_TYPE_HASH, 4, 0)) << "a map without entries"; }
